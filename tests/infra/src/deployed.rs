//! What a stack is made of once its parameters are given: references, conditions and the functions that the batch job's
//! commands are built with.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::Template;

/// The template with parameters.
#[derive(Clone, Debug)]
pub struct Deployed<'a> {
    template: &'a Template,
    given: BTreeMap<&'a str, &'a str>,
}

impl<'a> Deployed<'a> {
    /// The stack with these parameters; the others have their defaults.
    pub fn with(template: &'a Template, given: &[(&'a str, &'a str)]) -> Self {
        Self { template, given: given.iter().copied().collect() }
    }

    /// Whether a condition holds.
    pub fn holds(&self, condition: &str) -> bool {
        self.is_true(&self.template.0["Conditions"][condition])
    }

    /// A value as CloudFormation hands it on; nothing if it is left out. A reference to a resource becomes its name in angle
    /// brackets.
    pub fn value(&self, value: &Value) -> Option<Value> {
        match value {
            Value::Array(values) => Some(values.iter().filter_map(|v| self.value(v)).collect()),
            Value::Object(map) => self.object(map),
            plain => Some(plain.clone()),
        }
    }

    fn object(&self, map: &Map<String, Value>) -> Option<Value> {
        let (name, argument) = map.iter().next().map_or(("", &Value::Null), |(k, v)| (k.as_str(), v));
        match name {
            "Ref" => self.reference(text(argument)),
            "Fn::If" => self.value(&argument[if self.holds(text(&argument[0])) { 1 } else { 2 }]),
            "Fn::Join" => Some(json!(self.texts(&argument[1]).join(text(&argument[0])))),
            "Fn::Split" => {
                let whole = self.value(&argument[1])?;
                Some(text(&whole).split(text(&argument[0])).map(|part| json!(part)).collect())
            }
            "Fn::Sub" => Some(json!(self.substituted(argument))),
            "Fn::GetAtt" => Some(json!(format!("<{}>", self.texts(argument).join(".")))),
            _ => Some(map.iter().filter_map(|(k, v)| Some((k.clone(), self.value(v)?))).collect::<Map<_, _>>().into()),
        }
    }

    fn reference(&self, name: &str) -> Option<Value> {
        if name == "AWS::NoValue" {
            return None;
        }
        let parameter = &self.template.0["Parameters"][name];
        let default = || match &parameter["Default"] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let given = self.given.get(name).map_or_else(default, |text| (*text).to_owned());
        Some(match parameter["Type"].as_str() {
            None => json!(format!("<{name}>")),
            Some("CommaDelimitedList") => given.split(',').map(|part| json!(part)).collect(),
            Some(_) => json!(given),
        })
    }

    /// `${NAME}` by the map that comes with it, or by reference.
    fn substituted(&self, argument: &Value) -> String {
        let (pattern, map) = match argument {
            Value::Array(both) => (text(&both[0]), &both[1]),
            one => (text(one), &Value::Null),
        };
        let mut parts = pattern.split("${");
        let mut whole = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (name, rest) = part.split_once('}').expect("a reference is closed");
            let value = map.get(name).map_or_else(|| self.reference(name), |value| self.value(value));
            whole += text(&value.unwrap_or_default());
            whole += rest;
        }
        whole
    }

    fn texts(&self, list: &Value) -> Vec<String> {
        let list = self.value(list).unwrap_or_default();
        list.as_array().into_iter().flatten().map(|part| text(part).to_owned()).collect()
    }

    fn is_true(&self, condition: &Value) -> bool {
        assert!(condition.is_object(), "there is no such condition");
        let all = |name: &str| condition[name].as_array().into_iter().flatten();
        if let Some(name) = condition["Condition"].as_str() {
            return self.holds(name);
        }
        let equal = &condition["Fn::Equals"];
        if !equal.is_null() {
            let side = |i: usize| self.value(&equal[i]).map(|v| v.as_str().map_or(v.to_string(), ToOwned::to_owned));
            return side(0) == side(1);
        }
        if condition["Fn::Not"].is_array() {
            return !self.is_true(&condition["Fn::Not"][0]);
        }
        if condition["Fn::Or"].is_array() {
            all("Fn::Or").any(|c| self.is_true(c))
        } else {
            all("Fn::And").all(|c| self.is_true(c))
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
