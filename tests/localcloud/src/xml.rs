//! Reading the XML of AWS's Query interfaces.

use roxmltree::{Document, Node};

use crate::Error;

/// Parses an answer.
pub(crate) fn parse<'a>(action: &str, text: &'a str) -> Result<Document<'a>, Error> {
    Document::parse(text).map_err(|e| Error::Answer { action: action.into(), reason: e.to_string() })
}

/// The first descendant of that name.
pub(crate) fn find<'a>(node: Node<'a, 'a>, name: &str) -> Option<Node<'a, 'a>> {
    node.descendants().find(|n| n.tag_name().name() == name)
}

/// The text of the first descendant of that name.
pub(crate) fn text<'a>(node: Node<'a, 'a>, name: &str) -> Option<&'a str> {
    find(node, name).and_then(|n| n.text())
}

/// The entries (`member` or `item`) of every list of that name.
pub(crate) fn entries<'a>(node: Node<'a, 'a>, list: &str) -> Vec<Node<'a, 'a>> {
    let lists = node.descendants().filter(|n| n.tag_name().name() == list);
    lists.flat_map(|l| l.children().filter(Node::is_element)).collect()
}
