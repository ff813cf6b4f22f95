//! cfn-lint has nothing to say, about the source and about what the transform makes of it.

use infra::Template;

#[test]
fn the_source_is_clean() {
    assert_eq!(infra::lint(&infra::source()).unwrap(), "");
}

/// The source alone hides dangling references inside what SAM generates.
#[test]
fn the_transformed_template_is_clean() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("template.json");
    std::fs::write(&path, Template::transformed().unwrap().0.to_string()).unwrap();
    assert_eq!(infra::lint(&path).unwrap(), "");
}

#[test]
fn the_linter_does_find_a_dangling_reference() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("template.yaml");
    let text = std::fs::read_to_string(infra::source()).unwrap();
    std::fs::write(&path, text.replace("!GetAtt DecisionsTable.StreamArn", "!GetAtt NoTable.StreamArn")).unwrap();
    let findings = infra::lint(&path).unwrap();
    assert!(findings.contains("NoTable"), "{findings}");
}
