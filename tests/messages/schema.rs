//! As much of JSON Schema as `docs/schema.json` uses. A keyword that is not known here fails, so that nothing is
//! left unchecked.

use serde_json::{Map, Value};

/// The schema of the repository.
pub(crate) struct Schema(Value);

impl Schema {
    pub(crate) fn read() -> Schema {
        Schema(serde_json::from_str(&crate::read("docs/schema.json")).expect("JSON"))
    }

    /// Returns the definitions that `docs/json.md` has for commands. Each is of a command that `help` knows.
    pub(crate) fn commands(&self, help: &str) -> Vec<String> {
        let page = crate::read("docs/json.md");
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `codex-pool "));
        let rows: Vec<(String, String)> = rows
            .map(|row| {
                let verb = row.split(' ').next().expect("a verb").to_owned();
                (verb, row.split('`').nth(2).expect("a definition").to_owned())
            })
            .collect();
        for (verb, definition) in &rows {
            assert!(help.contains(&format!("\n  {verb} ")), "there is no {verb}");
            assert!(self.0["$defs"].get(definition).is_some(), "there is no {definition}");
        }
        rows.into_iter().map(|(_, definition)| definition).collect()
    }

    /// Returns where a value is not as the definition says.
    pub(crate) fn errors(&self, definition: &str, value: &Value) -> Vec<String> {
        let mut errors = Vec::new();
        let schema = self.0["$defs"].get(definition).unwrap_or_else(|| panic!("no definition {definition}"));
        self.check(schema, value, "", &mut errors);
        errors
    }

    fn check(&self, schema: &Value, value: &Value, at: &str, errors: &mut Vec<String>) {
        for (keyword, wanted) in schema.as_object().expect("a schema") {
            let fits = match keyword.as_str() {
                "description" | "required" | "additionalProperties" => true,
                "$ref" => {
                    let name =
                        wanted.as_str().and_then(|path| path.strip_prefix("#/$defs/")).expect("a definition");
                    self.check(&self.0["$defs"][name], value, at, errors);
                    true
                }
                "const" => value == wanted,
                "enum" => wanted.as_array().expect("values").contains(value),
                "type" => match wanted {
                    Value::Array(types) => types.iter().any(|name| is_of_type(value, name)),
                    name => is_of_type(value, name),
                },
                "anyOf" => wanted.as_array().expect("schemas").iter().any(|schema| {
                    let mut inner = Vec::new();
                    self.check(schema, value, at, &mut inner);
                    inner.is_empty()
                }),
                "items" => {
                    for (n, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.check(wanted, item, &format!("{at}[{n}]"), errors);
                    }
                    true
                }
                "properties" => {
                    if let Some(object) = value.as_object() {
                        self.check_object(schema, object, at, errors);
                    }
                    true
                }
                other => panic!("the keyword {other} is not checked"),
            };
            if !fits {
                errors.push(format!("{at}: {value} is not {keyword} {wanted}"));
            }
        }
    }

    fn check_object(&self, schema: &Value, object: &Map<String, Value>, at: &str, errors: &mut Vec<String>) {
        let properties = schema["properties"].as_object().expect("properties");
        assert_eq!(schema["additionalProperties"], false, "an object names all of its fields");
        for (name, value) in object {
            match properties.get(name) {
                Some(schema) => self.check(schema, value, &format!("{at}.{name}"), errors),
                None => errors.push(format!("{at}.{name} is not in the schema")),
            }
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !object.contains_key(name) {
                errors.push(format!("{at}.{name} is missing"));
            }
        }
    }
}

fn is_of_type(value: &Value, name: &Value) -> bool {
    match name.as_str().expect("a type") {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("there is no type {other}"),
    }
}
