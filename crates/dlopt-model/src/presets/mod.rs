//! The networks that have a name: each is a TOML text beside this file and one line here.

use dlopt_checkpoint::{Error, Result};

use crate::description::{Description, nearest};

/// A network with a name.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// What `--model` takes.
    pub name: &'static str,
    /// Its description in TOML.
    pub text: &'static str,
}

/// All of them.
pub const PRESETS: &[Preset] = &[
    Preset { name: "cnn", text: include_str!("cnn.toml") },
    Preset { name: "lenet5", text: include_str!("lenet5.toml") },
    Preset { name: "lenet300", text: include_str!("lenet300.toml") },
    Preset { name: "resnet20", text: include_str!("resnet20.toml") },
    Preset { name: "mobilenet", text: include_str!("mobilenet.toml") },
    Preset { name: "mlp", text: include_str!("mlp.toml") },
    Preset { name: "lstm", text: include_str!("lstm.toml") },
    Preset { name: "gru", text: include_str!("gru.toml") },
    Preset { name: "bigru", text: include_str!("bigru.toml") },
    Preset { name: "linear", text: include_str!("linear.toml") },
    Preset { name: "textcnn", text: include_str!("textcnn.toml") },
    Preset { name: "textgru", text: include_str!("textgru.toml") },
    Preset { name: "charlstm", text: include_str!("charlstm.toml") },
    Preset { name: "seq2seq", text: include_str!("seq2seq.toml") },
];

impl Preset {
    /// The preset of this name.
    ///
    /// # Errors
    /// When there is none; the nearest name is given.
    pub fn named(name: &str) -> Result<Self> {
        PRESETS.iter().find(|preset| preset.name == name).copied().ok_or_else(|| {
            let names: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
            let all = format!("models: {}; or the path of a description, NAME.toml", names.join(", "));
            let error = Error::usage(format!("there is no model `{name}`"));
            match nearest(name, &names) {
                Some(near) => error.hint(format!("did you mean `{near}`? {all}")),
                None => error.hint(all),
            }
        })
    }

    /// Its description.
    pub fn description(&self) -> Description {
        Description::from_toml(self.text).expect("a test reads every preset")
    }
}
