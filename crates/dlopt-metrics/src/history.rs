//! One epoch of training as one JSON line.
//!
//! JSON has no NaN and no infinity: they are written as null, and null is read back as NaN. What is absent has no key.

use dlopt_checkpoint::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What one epoch of training came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// The epoch, counted from 1.
    pub epoch: u64,
    /// Optimiser steps taken since the beginning.
    pub step: u64,
    /// The mean training loss over the epoch's samples.
    #[serde(serialize_with = "write_number", deserialize_with = "read_number")]
    pub train_loss: f64,
    /// The fraction of training samples that were classified rightly, in 0..=1.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "read_present")]
    pub train_accuracy: Option<f64>,
    /// The mean loss on the validation data after the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "read_present")]
    pub validation_loss: Option<f64>,
    /// The fraction of validation samples that were classified rightly, in 0..=1.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "read_present")]
    pub validation_accuracy: Option<f64>,
    /// The learning rate of the epoch's last step.
    #[serde(serialize_with = "write_number", deserialize_with = "read_number")]
    pub learning_rate: f64,
    /// Wall-clock seconds of the epoch, validation included.
    #[serde(serialize_with = "write_number", deserialize_with = "read_number")]
    pub seconds: f64,
}

impl EpochRecord {
    /// The record as one line of JSON, with its line break.
    pub fn to_line(&self) -> String {
        let mut line = serde_json::to_string(self).expect("a struct of numbers always has a JSON form");
        line.push('\n');
        line
    }

    /// Reads the records of a log of JSON lines; empty lines are skipped.
    ///
    /// # Errors
    /// When a line is not a record; the line is named.
    pub fn read_lines(text: &str) -> Result<Vec<Self>> {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        lines
            .map(|(i, line)| {
                serde_json::from_str(line).map_err(|e| {
                    Error::input(format!("line {}: not an epoch's record: {e}", i + 1))
                        .hint("one JSON object a line, with `epoch`, `step`, `train_loss`, `learning_rate`, `seconds`")
                })
            })
            .collect()
    }
}

fn write_number<S: Serializer>(value: &f64, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    value.is_finite().then_some(*value).serialize(serializer)
}

fn read_number<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

fn read_present<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<f64>, D::Error> {
    read_number(deserializer).map(Some)
}
