//! The options behind a loss's weight: `key=value` pairs, each taken once.

use dlopt_checkpoint::{Error, Result};

use crate::ramp::Ramp;

/// Options that a user wrote, until a loss has taken them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    pairs: Vec<(String, String)>,
}

impl Options {
    /// Reads `key=value` pairs.
    ///
    /// # Errors
    /// When one has no `=`, or a key comes twice.
    pub fn parse<'a>(pairs: impl Iterator<Item = &'a str>) -> Result<Self> {
        let mut options = Self::default();
        for pair in pairs {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(Error::usage(format!("`{pair}` is no key=value")));
            };
            let (key, value) = (key.trim(), value.trim());
            if options.pairs.iter().any(|(known, _)| known == key) {
                return Err(Error::usage(format!("`{key}` is said twice")));
            }
            options.pairs.push((key.to_owned(), value.to_owned()));
        }
        Ok(options)
    }

    /// Takes the text of a key.
    pub fn text(&mut self, key: &str) -> Option<String> {
        let at = self.pairs.iter().position(|(known, _)| known == key)?;
        Some(self.pairs.remove(at).1)
    }

    /// Takes a number that may move while training goes on, all of it more than `above`.
    ///
    /// # Errors
    /// When it is no number, or not more than `above`.
    pub fn ramp(&mut self, key: &str, default: f64, above: f64) -> Result<Ramp> {
        let Some(text) = self.text(key) else { return Ok(Ramp::constant(default)) };
        let ramp = Ramp::parse(&text).map_err(|e| e.within(key))?;
        if ramp.least() > above {
            return Ok(ramp);
        }
        Err(Error::usage(format!("{key} is {text}; it must be more than {above}")))
    }

    /// Takes a number that is at least `least`.
    ///
    /// # Errors
    /// When it is no number, or less than `least`.
    pub fn number(&mut self, key: &str, default: f64, least: f64) -> Result<f64> {
        let Some(text) = self.text(key) else { return Ok(default) };
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() && value >= least => Ok(value),
            _ => Err(Error::usage(format!("{key} is {text}; it must be a number, {least} or more"))),
        }
    }

    /// Refuses what nobody took.
    ///
    /// # Errors
    /// When an option is left; the known ones are named.
    pub fn finish(self, known: &[(&str, &str)]) -> Result<()> {
        let Some((key, _)) = self.pairs.first() else { return Ok(()) };
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let error = Error::usage(format!("no option `{key}`"));
        let nearest = names.iter().max_by(|a, b| strsim::jaro(a, key).total_cmp(&strsim::jaro(b, key)));
        Err(match nearest.filter(|near| strsim::jaro(near, key) > 0.7) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None if names.is_empty() => error.hint("it has no options"),
            None => error.hint(format!("it has {}", names.join(", "))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_taken_once_and_strangers_are_refused() {
        let read = |text: &'static [&'static str]| Options::parse(text.iter().copied());
        let mut options = read(&["temperature=4..1", "beta=8", "alpha=1"]).unwrap();
        assert_eq!(options.ramp("temperature", 1.0, 0.0).unwrap().at(0.0), 4.0);
        assert_eq!(options.number("beta", 1.0, 0.0).unwrap(), 8.0);
        assert_eq!(options.number("gamma", 2.5, 0.0).unwrap(), 2.5);
        let error = options.finish(&[("temperature", ""), ("alpha", "")]).unwrap_err();
        assert!(error.message().contains("no option `alpha`"), "{error}");
        assert!(read(&["a=1", "a=2"]).unwrap_err().message().contains("twice"));
        assert!(read(&["a"]).unwrap_err().message().contains("no key=value"));
        for text in ["temperature=0", "temperature=-1", "temperature=4..0"] {
            let mut options = Options::parse(std::iter::once(text)).unwrap();
            let message = options.ramp("temperature", 4.0, 0.0).unwrap_err().message().to_owned();
            assert!(message.contains("more than 0"), "{message}");
        }
        let mut options = read(&["beta=-1"]).unwrap();
        assert!(options.number("beta", 1.0, 0.0).unwrap_err().message().contains("0 or more"));
    }
}
