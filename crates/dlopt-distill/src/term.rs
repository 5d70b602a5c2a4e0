//! One term of what a student learns, as a user writes it: `kd=0.9,temperature=4`, `hint=conv2:0.5`,
//! `attention=layer2.0/layer2.2:1` (the student's layer, then the teacher's).

use dlopt_checkpoint::{Error, Result};

use crate::losses::{DistillLoss, Kind, LOSSES, On};
use crate::options::Options;
use crate::ramp::Ramp;

/// A loss with its weight and, for losses on features, the layers it compares.
pub struct Term {
    /// Which loss.
    pub kind: &'static Kind,
    /// How much it counts.
    pub weight: Ramp,
    /// The layers of the student and of the teacher, for a loss on features.
    pub layers: Option<(String, String)>,
    /// The loss itself.
    pub loss: Box<dyn DistillLoss>,
    /// As it was written.
    pub text: String,
}

impl Term {
    /// Reads `NAME=WEIGHT[,key=value…]`, or `NAME=LAYER[/TEACHERS_LAYER]:WEIGHT[,key=value…]` for losses on features.
    ///
    /// # Errors
    /// When the name or an option is unknown, or a number out of its range.
    pub fn parse(text: &str) -> Result<Self> {
        let within = |e: Error| e.within(format!("--loss {text}"));
        Self::read(text).map_err(within)
    }

    fn read(text: &str) -> Result<Self> {
        let mut parts = text.split(',');
        let head = parts.next().unwrap_or_default();
        let (name, value) = head.split_once('=').unwrap_or((head, ""));
        let kind = LOSSES.iter().find(|kind| kind.name == name.trim()).ok_or_else(|| unknown(name.trim()))?;
        let mut options = Options::parse(parts)?;
        let loss = (kind.make)(&mut options)?;
        options.finish(kind.options)?;
        let (layers, weight) = match (kind.on, value.rsplit_once(':')) {
            (On::Outputs, None) => (None, value),
            (On::Outputs, Some(_)) => {
                return Err(Error::usage(format!("`{name}` compares outputs, and takes no layer")));
            }
            (On::Features, Some((layers, weight))) => {
                let (student, teacher) = layers.split_once('/').unwrap_or((layers, layers));
                (Some((student.trim().to_owned(), teacher.trim().to_owned())), weight)
            }
            (On::Features, None) => {
                return Err(Error::usage(format!("`{name}` compares what a layer puts out"))
                    .hint(format!("{name}=LAYER:WEIGHT, or {name}=LAYER/TEACHERS_LAYER:WEIGHT")));
            }
        };
        let weight = if weight.trim().is_empty() { Ramp::constant(1.0) } else { Ramp::parse(weight)? };
        if weight.least() < 0.0 {
            return Err(Error::usage(format!("the weight is {weight}; it must be 0 or more")));
        }
        Ok(Self { kind, weight, layers, loss, text: text.to_owned() })
    }
}

fn unknown(name: &str) -> Error {
    let names: Vec<&str> = ["ce", "sequence"].into_iter().chain(LOSSES.iter().map(|kind| kind.name)).collect();
    let error = Error::usage(format!("no loss `{name}`"));
    let nearest = names.iter().max_by(|a, b| strsim::jaro(a, name).total_cmp(&strsim::jaro(b, name)));
    match nearest.filter(|near| strsim::jaro(near, name) > 0.8) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint(format!("one of {}", names.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_has_a_weight_and_options() {
        let term = Term::parse("kd=0.9..0.1,temperature=4").unwrap();
        assert_eq!((term.kind.name, term.weight.at(0.0), term.layers), ("kd", 0.9, None));
        assert_eq!(Term::parse("kd").unwrap().weight, Ramp::constant(1.0));
    }

    #[test]
    fn nonsense_is_refused_with_the_term() {
        for (text, wanted) in [
            ("kl=1", "no loss `kl`"),
            ("kd=-1", "0 or more"),
            ("kd=x", "A..B"),
            ("kd=1,temprature=3", "no option `temprature`"),
            ("kd=1,temperature=0", "more than 0"),
            ("kd=conv2:1", "takes no layer"),
        ] {
            let error = Term::parse(text).err().unwrap();
            assert!(error.message().contains(wanted) && error.message().contains(text), "{error}");
        }
    }
}
