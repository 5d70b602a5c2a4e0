//! JSON Lines: one object a line, plain or gzipped.
//!
//! A record of text has a field of text (`text`, when nobody says) and one of its class (`label`), of numbers to predict,
//! or of the text to put out, which may be a list of texts of which each is right. In a record of numbers all fields but
//! those are features: numbers, `true` and `false`, and lists of numbers, which are laid out one after the other.

use std::path::{Path, PathBuf};

use dlopt_checkpoint::{Dtype, Error, Result};
use serde_json::{Map, Value};

use super::labels::{LabelNames, MOST_CLASSES};
use super::lines::Lines;
use super::records::{Record, Records, source};
use super::{
    About, Fixed, Format, Inputs, Labels, ReadOptions, Samples, Source, Values, channels_of, no_such, reshaped,
    samples_per_chunk,
};
use crate::info::Elements;

pub(super) const FORMAT: Format = Format {
    name: "jsonl",
    summary: "JSON Lines: texts or numbers, one object a line",
    extensions: &[".jsonl", ".ndjson"],
    sniff: |first| first.trim_ascii_start().starts_with(b"{\""),
    group: |files| Ok(files.into_iter().map(|file| vec![file]).collect()),
    open,
};

type Object = Map<String, Value>;

fn open(files: &[PathBuf], options: &ReadOptions) -> Result<Vec<Source>> {
    let [path] = files else { return Err(Error::usage("JSON Lines are one file")) };
    let fields = Fields::new(path, options).map_err(|e| e.within(path.display()))?;
    if fields.text.is_some() {
        return source(files, Box::new(fields), Default::default());
    }
    numbers(files, fields, options)
}

/// Which fields are what.
struct Fields {
    path: PathBuf,
    encoding: Option<String>,
    text: Option<String>,
    answer: Option<String>,
    label: Option<String>,
    targets: Vec<String>,
    group: Option<String>,
    /// Fields of numbers with how many they hold.
    features: Vec<(String, usize)>,
}

impl Fields {
    fn new(path: &Path, options: &ReadOptions) -> Result<Self> {
        let mut own = Self {
            path: path.to_owned(),
            encoding: options.encoding.clone(),
            text: options.text.clone(),
            answer: options.answer.clone(),
            label: options.label.clone(),
            targets: options.targets.clone(),
            group: options.group.clone(),
            features: Vec::new(),
        };
        let mut first = None;
        own.first(&mut first)?;
        let first = first.ok_or_else(|| Error::input("is empty; wanted one JSON object a line"))?;
        let names: Vec<&String> = first.keys().collect();
        let asked = [&own.text, &own.answer, &own.label, &own.group].into_iter().flatten();
        if let Some(absent) = asked.chain(&own.targets).chain(&options.drop).find(|name| !first.contains_key(*name)) {
            return Err(no_such("field", absent, &names));
        }
        if own.text.is_none() && first.get("text").is_some_and(Value::is_string) {
            own.text = Some("text".to_owned());
        }
        if own.answer.is_some() && (own.label.is_some() || !own.targets.is_empty()) {
            return Err(Error::usage("texts to put out, and classes or targets: wanted one of them"));
        }
        if own.answer.is_none() && own.targets.is_empty() {
            let label = own.label.clone().or_else(|| first.contains_key("label").then(|| "label".to_owned()));
            own.label = Some(label.ok_or_else(|| {
                Error::usage(format!("which field holds the class? There are {}", crate::dataset::quoted(&names)))
                    .hint("--label FIELD; or --targets, or --answer for texts to put out")
            })?);
        }
        let learned = |name: &String| {
            [&own.answer, &own.label, &own.group].into_iter().flatten().chain(&own.targets).any(|own| own == name)
        };
        if own.text.is_none() {
            if own.answer.is_some() {
                return Err(
                    Error::usage("--answer names the texts to put out, and nothing those to read").hint("--text FIELD")
                );
            }
            for (name, value) in &first {
                let count = count(value).filter(|_| !learned(name) && !options.drop.contains(name));
                own.features.extend(count.map(|count| (name.clone(), count)));
            }
            if own.features.is_empty() {
                return Err(Error::input(format!(
                    "none of the fields {} holds numbers",
                    crate::dataset::quoted(&names)
                ))
                .hint("--text FIELD, if the records are texts"));
            }
        } else if own.text.as_ref().is_some_and(learned) {
            return Err(Error::usage("one field is to be read, and to be learned"));
        }
        Ok(own)
    }

    /// The first object.
    fn first(&self, into: &mut Option<Object>) -> Result<()> {
        let mut lines = Lines::open(&self.path, self.encoding.as_deref())?;
        while let Some((line, text)) = lines.next()? {
            if !text.trim().is_empty() {
                *into = Some(object(text).map_err(|e| e.within(format!("line {line}")))?);
                break;
            }
        }
        Ok(())
    }

    /// Gives all objects with their lines.
    fn objects(&self, each: &mut dyn FnMut(&Object, u64) -> Result<()>) -> Result<()> {
        let mut lines = Lines::open(&self.path, self.encoding.as_deref())?;
        while let Some((line, text)) = lines.next()? {
            if text.trim().is_empty() {
                continue;
            }
            object(text)
                .and_then(|object| each(&object, line))
                .map_err(|e| e.within(format!("{}: line {line}", self.path.display())))?;
        }
        Ok(())
    }

    /// The numbers of an object, one field after the other.
    fn features(&self, object: &Object, into: &mut Vec<f32>) -> Result<()> {
        for (name, wanted) in &self.features {
            let before = into.len();
            let value = field(object, name)?;
            lay_out(value, into).ok_or_else(|| Error::input(format!("field `{name}` holds what is no number")))?;
            let found = into.len() - before;
            if found != *wanted {
                return Err(Error::input(format!("field `{name}` holds {found} numbers; in the first line {wanted}")));
            }
        }
        Ok(())
    }

    fn targets(&self, object: &Object) -> Result<Vec<f32>> {
        let mut all = Vec::with_capacity(self.targets.len());
        for name in &self.targets {
            let before = all.len();
            lay_out(field(object, name)?, &mut all)
                .filter(|()| all.len() == before + 1)
                .ok_or_else(|| Error::input(format!("field `{name}` is no number")))?;
        }
        Ok(all)
    }

    fn label(&self, object: &Object) -> Result<Option<String>> {
        self.label.as_ref().map(|name| name_in(object, name)).transpose()
    }
}

impl Records for Fields {
    fn read(&self, each: &mut dyn FnMut(Record) -> Result<()>) -> Result<()> {
        let text = |object: &Object, name: &str| match field(object, name)? {
            Value::String(text) => Ok(text.clone()),
            _ => Err(Error::input(format!("field `{name}` is no text"))),
        };
        self.objects(&mut |object, line| {
            let answers = match &self.answer {
                None => Vec::new(),
                Some(name) => match field(object, name)? {
                    Value::Array(all) if !all.is_empty() && all.iter().all(Value::is_string) => {
                        all.iter().filter_map(Value::as_str).map(str::to_owned).collect()
                    }
                    _ => vec![text(object, name)?],
                },
            };
            each(Record {
                line,
                text: self.text.as_ref().map(|name| text(object, name)).transpose()?.unwrap_or_default(),
                answers,
                label: self.label(object)?,
                targets: self.targets(object)?,
                group: self.group.as_ref().map(|name| name_in(object, name)).transpose()?,
            })
        })
    }

    fn target_names(&self) -> Vec<String> {
        self.targets.clone()
    }
}

/// Records of numbers.
fn numbers(files: &[PathBuf], fields: Fields, options: &ReadOptions) -> Result<Vec<Source>> {
    let (mut labels, mut values, mut groups) = (LabelNames::default(), Vec::new(), Vec::new());
    let (mut samples, mut largest, mut is_bytes, mut row) = (0, f32::NEG_INFINITY, true, Vec::new());
    fields.objects(&mut |object, line| {
        samples += 1;
        row.clear();
        fields.features(object, &mut row)?;
        for &x in &row {
            largest = largest.max(x);
            is_bytes &= (0.0..=255.0).contains(&x) && x.fract() == 0.0;
        }
        values.extend(fields.targets(object)?);
        if let Some(label) = fields.label(object)?
            && !labels.see(&label, line)
        {
            return Err(Error::input(format!("more than {MOST_CLASSES} different classes"))
                .hint("--targets, if the field holds numbers to predict"));
        }
        if let Some(name) = &fields.group {
            groups.push(name_in(object, name)?);
        }
        Ok(())
    })?;
    let names = fields.features.iter().flat_map(|(name, count)| match count {
        1 => vec![name.clone()],
        _ => (0..*count).map(|at| format!("{name}.{at}")).collect(),
    });
    let names: Vec<String> = names.collect();
    let own = Elements::Vector { features: names.len(), names };
    let elements = reshaped(own, options).map_err(|e| e.within(files[0].display()))?;
    let is_bytes = is_bytes && matches!(elements, Elements::Image { .. });
    let fixed = Fixed {
        channels: channels_of(&elements, &elements),
        elements,
        dtype: if is_bytes { Dtype::U8 } else { Dtype::F32 },
        lengths: None,
        largest: Some(largest),
    };
    let labels = if fields.targets.is_empty() {
        labels.into_labels()
    } else {
        Labels::Targets { values, names: fields.targets.clone(), outputs: fields.targets.len() }
    };
    let about = About {
        name: files[0].display().to_string(),
        files: files.to_vec(),
        samples,
        labels,
        groups: fields.group.is_some().then_some(groups),
        fixed: Some(fixed),
        ..About::default()
    };
    Ok(vec![Source { split: None, about, samples: Samples::Stream(Box::new(fields)) }])
}

impl Inputs for Fields {
    fn read(&self, each: &mut dyn FnMut(Values) -> Result<()>) -> Result<()> {
        let features: usize = self.features.iter().map(|(_, count)| count).sum();
        let chunk = samples_per_chunk(features, 4) * features;
        let mut values = Vec::with_capacity(chunk);
        self.objects(&mut |object, _| {
            self.features(object, &mut values)?;
            if values.len() < chunk {
                return Ok(());
            }
            each(Values::F32(std::mem::replace(&mut values, Vec::with_capacity(chunk))))
        })?;
        if values.is_empty() { Ok(()) } else { each(Values::F32(values)) }
    }
}

fn object(text: &str) -> Result<Object> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Error::input("is no JSON object; wanted {\"field\": value, …}")),
        Err(e) => Err(Error::input(format!("is no JSON: {e}"))),
    }
}

fn field<'a>(object: &'a Object, name: &str) -> Result<&'a Value> {
    object.get(name).ok_or_else(|| Error::input(format!("has no field `{name}`")))
}

/// The name that a field holds, of a class or of what belongs together.
fn name_in(object: &Object, name: &str) -> Result<String> {
    match field(object, name)? {
        Value::String(text) if !text.is_empty() => Ok(text.clone()),
        value @ (Value::Number(_) | Value::Bool(_)) => Ok(value.to_string()),
        _ => Err(Error::input(format!("field `{name}` holds neither a name nor a number"))),
    }
}

/// How many numbers a value is; `None` when it is something else.
fn count(value: &Value) -> Option<usize> {
    let mut all = Vec::new();
    lay_out(value, &mut all).map(|()| all.len())
}

/// Appends the numbers of a value.
fn lay_out(value: &Value, into: &mut Vec<f32>) -> Option<()> {
    match value {
        Value::Number(number) => into.push(number.as_f64().map(|x| x as f32).filter(|x| x.is_finite())?),
        Value::Bool(own) => into.push(f32::from(u8::from(*own))),
        Value::Array(all) => return all.iter().try_for_each(|value| lay_out(value, into)),
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::Raw;

    fn opened(text: &str, options: &ReadOptions) -> Result<Source> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        std::fs::write(&path, text).unwrap();
        let source = open(&[path], options)?.remove(0);
        let count = match &source.samples {
            Samples::Stream(inputs) => {
                let mut count = 0;
                inputs.read(&mut |values| {
                    count += values.len();
                    Ok(())
                })?;
                count / source.about.fixed().elements.elements()
            }
            samples => samples.items().len(),
        };
        assert_eq!(count, source.about.samples);
        Ok(source)
    }

    fn message(text: &str, options: &ReadOptions) -> String {
        opened(text, options).err().expect("must be refused").to_string()
    }

    #[test]
    fn texts_and_their_classes() {
        let text = "{\"text\": \"a\\tb\", \"label\": 3, \"id\": 1}\n\n{\"id\": 2, \"label\": 4, \"text\": \"c\"}\n";
        let source = opened(text, &ReadOptions::default()).unwrap();
        let Labels::Names { distinct, .. } = &source.about.labels else { panic!() };
        assert_eq!(distinct[1], ("4".to_owned(), "line 3".to_owned()));
    }

    #[test]
    fn answers_may_be_several() {
        let options = ReadOptions { text: Some("en".to_owned()), answer: Some("de".to_owned()), ..Default::default() };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        std::fs::write(&path, "{\"en\": \"yes\", \"de\": [\"ja\", \"doch\"]}\n{\"en\": \"no\", \"de\": \"nein\"}\n")
            .unwrap();
        let items = open(&[path], &options).unwrap()[0].samples.items();
        assert_eq!(items[0].targets, [Raw::Text("ja".into()), Raw::Text("doch".into())]);
        assert_eq!(items[1].targets.len(), 1);
    }

    #[test]
    fn numbers_and_lists_are_features() {
        let text = "{\"label\": \"x\", \"a\": 1, \"b\": [2, 3], \"note\": \"n\"}\n{\"b\": [5, 6], \"a\": true, \"label\": \"y\"}\n";
        let about = opened(text, &ReadOptions::default()).unwrap().about;
        let Elements::Vector { names, .. } = &about.fixed().elements else { panic!() };
        assert_eq!(names, &["a", "b.0", "b.1"]);
        let targets = ReadOptions { targets: vec!["a".to_owned()], ..Default::default() };
        let Labels::Targets { values, .. } = opened(text, &targets).unwrap().about.labels else { panic!() };
        assert_eq!(values, [1.0, 1.0]);
    }

    #[test]
    fn what_does_not_fit_is_named_with_its_line() {
        let options = ReadOptions::default();
        let first = "{\"label\": 1, \"a\": [1, 2]}\n";
        for (more, wanted) in [
            ("{\"label\": 1, \"a\": [1]}", "line 2: field `a` holds 1 numbers; in the first line 2"),
            ("{\"label\": 1}", "line 2: has no field `a`"),
            ("{\"a\": [1, \"x\"], \"label\": 1}", "line 2: field `a` holds what is no number"),
            ("{\"a\": [1, 2], \"label\": null}", "line 2: field `label` holds neither"),
            ("[1]", "line 2: is no JSON object"),
            ("{", "line 2: is no JSON: "),
        ] {
            assert!(message(&format!("{first}{more}\n"), &options).contains(wanted), "{more}");
        }
        assert!(message("", &options).contains("is empty"));
        assert!(message("{\"a\": 1}\n", &options).contains("which field holds the class? There are `a`"));
        let absent = ReadOptions { label: Some("lable".to_owned()), ..Default::default() };
        assert!(message(first, &absent).contains("no field `lable`; there are `label`, `a`"));
    }
}
