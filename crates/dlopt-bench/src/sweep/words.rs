//! A verb with its flags as a table, and as a command line.

use dlopt_checkpoint::{Error, Result};

/// The verb of a table and the flags that its other keys stand for: `sparsity = 0.5` is `--sparsity=0.5`, a list repeats
/// the flag, true sets it.
///
/// # Errors
/// When there is no verb, or a value is a date or a table.
pub fn words(table: &toml::Table) -> Result<(String, Vec<String>)> {
    let verb = table
        .get("verb")
        .and_then(toml::Value::as_str)
        .ok_or_else(|| Error::usage("no verb").hint("verb = \"prune\", \"quantize\" or \"convert\""))?;
    let mut flags = Vec::new();
    for (key, value) in table.iter().filter(|(key, _)| *key != "verb") {
        let flag = format!("--{}", key.replace('_', "-"));
        let values = match value {
            toml::Value::Array(values) => values.clone(),
            single => vec![single.clone()],
        };
        for value in values {
            match value {
                toml::Value::Boolean(true) => flags.push(flag.clone()),
                toml::Value::Boolean(false) => {}
                toml::Value::String(text) => flags.push(format!("{flag}={text}")),
                toml::Value::Integer(number) => flags.push(format!("{flag}={number}")),
                toml::Value::Float(number) => flags.push(format!("{flag}={number}")),
                _ => {
                    return Err(Error::usage(format!(
                        "`{key}` must be text, a number, true or false, or a list of them"
                    )));
                }
            }
        }
    }
    Ok((verb.to_owned(), flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_stands_for_a_command_line() {
        let table: toml::Table =
            toml::from_str("verb = \"prune\"\nsparsity = 0.5\nallow_nonfinite = true\nexclude = [\"a\", \"b\"]")
                .unwrap();
        let (verb, mut flags) = words(&table).unwrap();
        // The order of the flags says nothing.
        flags.sort();
        assert_eq!(verb, "prune");
        assert_eq!(flags, ["--allow-nonfinite", "--exclude=a", "--exclude=b", "--sparsity=0.5"]);
    }
}
