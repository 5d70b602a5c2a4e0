//! `.ts`, the text format of the UCR and UEA archives of series, as sktime and aeon write it.
//!
//! Lines that begin with `#` are comments, with `@` headers; after `@data` one case a line: dimensions separated by `:`,
//! values by `,`, the class (or, with `@targetLabel`, the number to predict) last. Series may differ in length.
//! Samples become `[time, dimensions]`, padded with zeros at the end.

use std::collections::HashMap;
use std::io::BufRead;
use std::path::{Path, PathBuf};

use dlopt_checkpoint::{Dtype, Error, Result};

use super::raw_bytes::{broken, open_bytes};
use super::{
    About, Fixed, Format, Inputs, Labels, MOST_ELEMENTS, ReadOptions, Samples, Source, Values, samples_per_chunk,
};
use crate::dataset::quoted;
use crate::info::Elements;

pub(super) const FORMAT: Format = Format {
    name: "ts",
    summary: "series of the UCR and UEA archives (sktime, aeon), of equal or different lengths",
    extensions: &[".ts"],
    sniff: |first| {
        let is_header = |line: &[u8]| line.to_ascii_lowercase().starts_with(b"@problemname");
        first.split(|&b| b == b'\n').any(is_header)
    },
    group: |files| Ok(files.into_iter().map(|file| vec![file]).collect()),
    open,
};

/// What the lines before `@data` say.
#[derive(Clone, Debug, Default, PartialEq)]
struct Head {
    dimensions: Option<usize>,
    /// The classes, when cases end with one.
    classes: Vec<String>,
    /// Whether cases end with a number to predict.
    has_target: bool,
}

fn open(files: &[PathBuf], options: &ReadOptions) -> Result<Vec<Source>> {
    let [path] = files else { return Err(Error::usage("a set of series is one file")) };
    if !options.shape.is_empty() || options.kind.is_some_and(|kind| kind != super::Kind::Series) {
        return Err(Error::usage(format!("{}: holds series, and another shape is asked for", path.display()))
            .hint("leave --shape and --as out"));
    }
    let mut lines = Lines::open(path)?;
    let head = lines.head()?;
    let mut survey = Survey::default();
    let mut case = Case::default();
    let mut dimensions = head.dimensions;
    while lines.next(&head, dimensions, &mut case)? {
        dimensions = Some(case.channels.len());
        survey.take(path, &head, &case)?;
    }
    let Some(features) = dimensions.filter(|_| !survey.lengths.is_empty()) else {
        return Err(Error::input(format!("{}: no series after `@data`", path.display())));
    };
    let time = survey.lengths.iter().copied().max().unwrap_or(0) as usize;
    if time.saturating_mul(features) > MOST_ELEMENTS {
        return Err(Error::input(format!(
            "{}: a series of {time} steps with {features} features is too long",
            path.display()
        )));
    }
    let samples = survey.lengths.len();
    let labels = if head.has_target {
        Labels::Targets { values: survey.targets, names: Vec::new(), outputs: 1 }
    } else {
        Labels::Names { distinct: survey.distinct, of_sample: survey.of_sample }
    };
    let fixed = Fixed {
        elements: Elements::Series { time, features },
        dtype: Dtype::F32,
        lengths: Some(survey.lengths),
        channels: None,
        largest: None,
    };
    let about = About {
        name: path.display().to_string(),
        files: files.to_vec(),
        samples,
        labels,
        classes: (!head.has_target).then(|| head.classes.clone()),
        fixed: Some(fixed),
        ..About::default()
    };
    let inputs = Box::new(TsInputs { path: path.clone(), head, time, features, samples });
    Ok(vec![Source { split: None, about, samples: Samples::Stream(inputs) }])
}

#[derive(Default)]
struct Survey {
    lengths: Vec<u32>,
    targets: Vec<f32>,
    place_of: HashMap<String, u32>,
    distinct: Vec<(String, String)>,
    of_sample: Vec<u32>,
}

impl Survey {
    fn take(&mut self, path: &Path, head: &Head, case: &Case) -> Result<()> {
        let at = |what: String| Error::input(format!("{}: line {}: {what}", path.display(), case.line));
        self.lengths.push(case.channels[0].len() as u32);
        if head.has_target {
            let target = case.class.parse::<f32>().ok().filter(|x| x.is_finite());
            self.targets.push(target.ok_or_else(|| at(format!("target `{}` is not a number", case.class)))?);
            return Ok(());
        }
        let place = match self.place_of.get(&case.class) {
            Some(&place) => place,
            None => {
                let place = self.distinct.len() as u32;
                self.place_of.insert(case.class.clone(), place);
                self.distinct.push((case.class.clone(), format!("line {}", case.line)));
                place
            }
        };
        self.of_sample.push(place);
        Ok(())
    }
}

struct TsInputs {
    path: PathBuf,
    head: Head,
    time: usize,
    features: usize,
    samples: usize,
}

impl Inputs for TsInputs {
    fn read(&self, each: &mut dyn FnMut(Values) -> Result<()>) -> Result<()> {
        let changed = || Error::input(format!("{}: changed while it was read", self.path.display()));
        let sample = self.time * self.features;
        let chunk = samples_per_chunk(sample, 4) * sample;
        let mut lines = Lines::open(&self.path)?;
        if lines.head()? != self.head {
            return Err(changed());
        }
        let (mut values, mut case, mut samples) = (Vec::new(), Case::default(), 0);
        while lines.next(&self.head, Some(self.features), &mut case)? {
            samples += 1;
            let steps = case.channels[0].len();
            if steps > self.time || samples > self.samples {
                return Err(changed());
            }
            let begin = values.len();
            values.resize(begin + sample, 0.0);
            for (feature, channel) in case.channels.iter().enumerate() {
                for (step, &x) in channel.iter().enumerate() {
                    values[begin + step * self.features + feature] = x;
                }
            }
            if values.len() >= chunk {
                each(Values::F32(std::mem::take(&mut values)))?;
            }
        }
        if samples != self.samples {
            return Err(changed());
        }
        if values.is_empty() { Ok(()) } else { each(Values::F32(values)) }
    }
}

/// One line of data.
#[derive(Default)]
struct Case {
    line: u64,
    channels: Vec<Vec<f32>>,
    class: String,
}

/// The lines of a file, with the number of the last one.
struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    line: u64,
    bytes: Vec<u8>,
}

impl Lines {
    fn open(path: &Path) -> Result<Self> {
        Ok(Self { path: path.to_owned(), reader: open_bytes(path)?, line: 0, bytes: Vec::new() })
    }

    fn at(&self, what: impl std::fmt::Display) -> Error {
        Error::input(format!("{}: line {}: {what}", self.path.display(), self.line))
    }

    /// The next line that is neither empty nor a comment.
    fn text(&mut self) -> Result<Option<&str>> {
        loop {
            self.bytes.clear();
            self.line += 1;
            if self.reader.read_until(b'\n', &mut self.bytes).map_err(|e| broken(&self.path, &e))? == 0 {
                return Ok(None);
            }
            let line = self.bytes.trim_ascii();
            if !line.is_empty() && line[0] != b'#' {
                break;
            }
        }
        match std::str::from_utf8(&self.bytes) {
            Ok(text) => Ok(Some(text.trim())),
            Err(_) => Err(Error::input(format!("{}: line {}: is no UTF-8", self.path.display(), self.line))),
        }
    }

    /// Reads up to `@data`.
    fn head(&mut self) -> Result<Head> {
        let mut head = Head::default();
        loop {
            let Some(text) = self.text()? else {
                return Err(self.at("the file ends before `@data`").hint("this is no .ts file, or it was cut short"));
            };
            let mut words = text.split_whitespace().map(str::to_owned);
            let key = words.next().unwrap_or_default().to_lowercase();
            let values: Vec<String> = words.collect();
            let says_yes = values.first().is_some_and(|v| v.eq_ignore_ascii_case("true"));
            match key.as_str() {
                "@data" => break,
                "@timestamps" if says_yes => {
                    return Err(self.at("series with time stamps are not read").hint("resample them to even steps"));
                }
                "@univariate" if says_yes => head.dimensions = Some(1),
                "@dimensions" | "@dimension" => {
                    let number = values.first().and_then(|v| v.parse().ok()).filter(|&n| n > 0);
                    head.dimensions = Some(number.ok_or_else(|| self.at("`@dimensions` gives no number above 0"))?);
                }
                "@classlabel" if says_yes => head.classes = values[1..].to_vec(),
                "@targetlabel" if says_yes => head.has_target = true,
                key if key.starts_with('@') => {}
                _ => {
                    return Err(self.at("data before `@data`").hint("headers begin with @, comments with #"));
                }
            }
        }
        if head.classes.is_empty() && !head.has_target {
            return Err(self
                .at("neither `@classLabel true` with the classes nor `@targetLabel true` stands before `@data`")
                .hint("learning needs a class or a number for each series"));
        }
        Ok(head)
    }

    /// Reads the next case; says whether there was one.
    fn next(&mut self, head: &Head, dimensions: Option<usize>, case: &mut Case) -> Result<bool> {
        let Some(text) = self.text()? else { return Ok(false) };
        let parts: Vec<String> = text.split(':').map(|part| part.trim().to_owned()).collect();
        case.line = self.line;
        let (class, channels) = parts.split_last().expect("a split gives at least one part");
        let wanted = dimensions.unwrap_or(channels.len());
        let lacks_class = parts.len() == wanted || channels.is_empty();
        if lacks_class && (channels.is_empty() || !head.classes.contains(class)) {
            return Err(self
                .at(format!("{} dimensions and no {}", parts.len(), if head.has_target { "target" } else { "class" }))
                .hint("a case ends with : and its class"));
        }
        if channels.len() != wanted {
            return Err(self.at(format!("has {} dimensions; wanted {wanted}", channels.len())));
        }
        if !head.has_target && !head.classes.contains(class) {
            let error = self.at(format!(
                "class `{}` is outside the classes that `@classLabel` names: {}",
                class.chars().take(40).collect::<String>(),
                quoted(&head.classes)
            ));
            return Err(error);
        }
        class.clone_into(&mut case.class);
        case.channels.resize_with(channels.len(), Vec::new);
        for (dimension, (part, values)) in channels.iter().zip(&mut case.channels).enumerate() {
            values.clear();
            for (step, field) in part.split(',').enumerate() {
                let field = field.trim();
                let number = field.parse::<f32>().ok();
                match number.filter(|x| x.is_finite()) {
                    Some(x) => values.push(x),
                    None => return Err(self.no_number(field, dimension, step)),
                }
            }
        }
        let steps = case.channels[0].len();
        if let Some(other) = case.channels.iter().position(|channel| channel.len() != steps) {
            return Err(self.at(format!(
                "dimension {} has {} steps, dimension 1 has {steps}",
                other + 1,
                case.channels[other].len()
            )));
        }
        Ok(true)
    }

    fn no_number(&self, field: &str, dimension: usize, step: usize) -> Error {
        let place = format!("dimension {}, step {}", dimension + 1, step + 1);
        match field {
            "?" => self.at(format!("{place}: a missing value (`?`)")).hint("fill missing values, or remove the case"),
            "" => self.at(format!("{place}: nothing there; wanted a number")),
            _ => self.at(format!("{place}: `{}` is not a finite number", field.chars().take(40).collect::<String>())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEAD: &str = "#about\n@problemName P\n@timeStamps false\n@univariate false\n@dimensions 2\n\
                        @classLabel true up down\n@data\n";

    fn opened(text: &str) -> Result<(About, Vec<f32>)> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("P_TRAIN.ts");
        std::fs::write(&path, text).unwrap();
        let source = open(&[path], &ReadOptions::default())?.remove(0);
        let mut all = Vec::new();
        source.samples.stream().read(&mut |chunk| {
            if let Values::F32(values) = chunk {
                all.extend(values);
            }
            Ok(())
        })?;
        Ok((source.about, all))
    }

    fn message(cases: &str) -> String {
        opened(&format!("{HEAD}{cases}")).expect_err("must be refused").message().to_owned()
    }

    #[test]
    fn series_of_different_lengths_are_padded_at_the_end() {
        let (about, values) = opened(&format!("{HEAD}1,2,3:4,5,6:up\n\n7,8:9,-1E-1:down\n")).unwrap();
        assert_eq!(about.fixed().elements, Elements::Series { time: 3, features: 2 });
        assert_eq!(about.fixed().lengths, Some(vec![3, 2]));
        assert_eq!(values, [1.0, 4.0, 2.0, 5.0, 3.0, 6.0, 7.0, 9.0, 8.0, -0.1, 0.0, 0.0]);
        assert_eq!(about.classes, Some(vec!["up".to_owned(), "down".to_owned()]));
        match about.labels {
            Labels::Names { of_sample, .. } => assert_eq!(of_sample, [0, 1]),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_dimension_needs_no_header_of_dimensions() {
        let (about, values) = opened("@classLabel true 1 2\n@univariate true\n@data\n5,6:2\n7,8:1\n").unwrap();
        assert_eq!(about.fixed().elements, Elements::Series { time: 2, features: 1 });
        assert_eq!(values, [5.0, 6.0, 7.0, 8.0]);
        let (about, _) = opened("@targetLabel true\n@data\n5,6:0.25\n7,8:-1\n").unwrap();
        assert_eq!(about.labels, Labels::Targets { values: vec![0.25, -1.0], names: vec![], outputs: 1 });
    }

    #[test]
    fn what_is_wrong_in_a_case_names_its_line() {
        let good = "1,2:3,4:up\n";
        let missing = message(&format!("{good}1,?:3,4:up\n"));
        assert!(missing.contains("line 9: dimension 1, step 2: a missing value"), "{missing}");
        assert!(message("1,2:3,4\n").contains("line 8: 2 dimensions and no class"));
        assert!(message("1,2:3,4:5,6:up\n").contains("has 3 dimensions; wanted 2"));
        assert!(message("1,2:3,4:left\n").contains("class `left` is outside the classes that `@classLabel` names"));
        assert!(message("1,2:3,4,5:up\n").contains("dimension 2 has 3 steps, dimension 1 has 2"));
        assert!(message("1,x:3,4:up\n").contains("`x` is not a finite number"));
        assert!(message("1,inf:3,4:up\n").contains("`inf` is not a finite number"));
        assert!(message("1,:3,4:up\n").contains("nothing there"));
        assert!(message("").contains("no series after `@data`"));
    }

    #[test]
    fn headers_that_cannot_be_used_are_refused() {
        let message = |text: &str| opened(text).unwrap_err().message().to_owned();
        assert!(message("@timeStamps true\n@data\n").contains("line 1: series with time stamps"));
        assert!(message("@dimensions none\n@data\n").contains("no number above 0"));
        assert!(message("@problemName x\n").contains("ends before `@data`"));
        assert!(message("1,2,3\n").contains("data before `@data`"));
        assert!(message("@problemName x\n@classLabel false\n@data\n1:2\n").contains("neither `@classLabel true`"));
    }

    proptest! {
        #[test]
        fn no_case_makes_the_reader_panic(cases in "[0-9:,?.a-zE \n-]{0,80}", head in 0..3usize) {
            let heads = [HEAD, "@classLabel true a b\n@data\n", ""];
            let _ = opened(&format!("{}{cases}", heads[head]));
        }
    }
}
