//! `dlopt.layout`: every part it names is there, belongs to one tensor, and hides none.

use std::collections::HashMap;

use dlopt_checkpoint::{Header, dtype_named, read_layout};

use super::Found;

/// Shapes of the parts are checked when the tensors are decoded.
pub(super) fn check(header: &Header, found: &mut Found) {
    found.check("layout", "the parts that `dlopt.layout` names");
    let layout = match read_layout(header) {
        Ok(layout) => layout,
        Err(error) => return found.model_error(error.message()),
    };
    let by_name = header.by_name();
    let mut owners: HashMap<&str, &str> = HashMap::new();
    for (name, stored) in &layout {
        if dtype_named(&stored.dtype).is_none() {
            found.error(name, format!("`dlopt.layout` gives it dtype `{}`", stored.dtype));
        }
        if stored.parts.is_empty() {
            found.error(name, "`dlopt.layout` gives it no parts");
        }
        for (role, part) in &stored.parts {
            if !by_name.contains_key(part.as_str()) {
                found.error(name, format!("its part `{part}` ({role}) is missing"));
            }
            if let Some(other) = owners.insert(part, name) {
                found.error(name, format!("its part `{part}` ({role}) belongs to `{other}` too"));
            }
        }
        if by_name.contains_key(name.as_str()) && !stored.parts.values().any(|part| part == name) {
            found.error(name, "is stored in parts and as a tensor of that name too");
        }
    }
}
