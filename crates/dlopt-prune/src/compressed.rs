//! What is compressed already, by the header: pruning it would need its dense weights.

use std::collections::HashSet;

use dlopt_checkpoint::{Dtype, Error, Header, Result, read_layout};

/// Refuses checkpoints that are quantized, or stored as bitmasks.
///
/// # Errors
/// When the config, the layout or the tensors' names say so.
pub fn refuse_compressed(header: &Header) -> Result<()> {
    let refuse = |what: String| {
        Err(Error::input(format!("{what}; only dense weights can be pruned"))
            .hint("`dlopt convert --decompress` makes them dense again"))
    };
    if let Some((name, stored)) = read_layout(header)?.first_key_value() {
        return refuse(format!("tensor `{name}` is stored as {}", stored.format));
    }
    let config = header.config()?.unwrap_or_default();
    for key in ["quantization_config", "compression_config"] {
        if let Some(of) = config.get(key).and_then(|v| v.as_object()).filter(|c| !c.is_empty()) {
            let method = of.get("quant_method").and_then(|v| v.as_str()).unwrap_or("some method");
            return refuse(format!("the config says that the model is quantized ({method})"));
        }
    }
    let names: HashSet<&str> = header.tensors.iter().map(|t| t.name.as_str()).collect();
    for tensor in &header.tensors {
        let name = tensor.name.as_str();
        let has = |suffix: &str| names.contains(format!("{name}{suffix}").as_str());
        if name.ends_with("weight_packed") || name.ends_with(".qweight") {
            return refuse(format!("tensor `{name}` holds packed integers"));
        }
        let is_small = matches!(
            tensor.dtype,
            Dtype::I8 | Dtype::U8 | Dtype::F8_E4M3 | Dtype::F8_E5M2 | Dtype::F8_E4M3FNUZ | Dtype::F8_E5M2FNUZ
        );
        if is_small && (has("_scale") || has("_scale_inv")) {
            return refuse(format!("tensor `{name}` is quantized"));
        }
        if let Some(stem) = name.strip_suffix(".compressed")
            && names.contains(format!("{stem}.bitmask").as_str())
        {
            return refuse(format!("tensor `{stem}` is stored as a bitmask"));
        }
    }
    Ok(())
}
