//! Text to go on with: windows of as many tokens, of which a network learns at each the next one.
//!
//! A window holds one token more than it has steps, and the next one begins with the last token of the one before, so that
//! every token but the first is learned once. The tokens after the last whole window are left out.

use std::path::PathBuf;

use dlopt_checkpoint::{Error, Result};
use unicode_segmentation::UnicodeSegmentation;

use super::lines::Lines;
use super::raw_bytes::{broken, fill, open_bytes};
use super::{About, Format, Item, Items, Labels, ReadOptions, Samples, Source, Unit};
use crate::pipeline::Pipeline;
use crate::raw::Raw;

pub(super) const FORMAT: Format = Format {
    name: "text",
    summary: "plain text to learn to go on with, in windows of bytes, characters or words",
    extensions: &[".txt"],
    sniff: |_| false,
    group: |files| Ok(files.into_iter().map(|file| vec![file]).collect()),
    open,
};

/// Steps of a window when nobody says.
const STEPS: usize = 128;

const BUFFER_BYTES: usize = 1 << 16;

struct Windows {
    path: PathBuf,
    encoding: Option<String>,
    unit: Unit,
    steps: usize,
}

fn open(files: &[PathBuf], options: &ReadOptions) -> Result<Vec<Source>> {
    let [path] = files else { return Err(Error::usage("a text is one file")) };
    let steps = options.window.unwrap_or(STEPS);
    if steps == 0 {
        return Err(Error::usage("--window 0: wanted one token or more"));
    }
    let own = Windows { path: path.clone(), encoding: options.encoding.clone(), unit: options.unit, steps };
    let mut samples = 0;
    own.read(&mut |_| {
        samples += 1;
        Ok(())
    })?;
    if samples == 0 {
        return Err(Error::input(format!("{}: is shorter than one window of {steps} tokens", path.display()))
            .hint("--window makes them shorter"));
    }
    let about = About {
        name: path.display().to_string(),
        files: files.to_vec(),
        samples,
        labels: Labels::Next,
        steps: [vec![Pipeline::spec("tokenise=bytes")?], Vec::new()],
        ..About::default()
    };
    Ok(vec![Source { split: None, about, samples: Samples::Items(Box::new(own)) }])
}

impl Items for Windows {
    fn read(&self, each: &mut dyn FnMut(Item) -> Result<()>) -> Result<()> {
        match self.unit {
            Unit::Bytes => self.bytes(each),
            Unit::Chars => self.pieces(each, "", |line, give| {
                let mut all = [0; 4];
                line.chars().for_each(|char| give(char.encode_utf8(&mut all)));
                give("\n");
            }),
            Unit::Words => self.pieces(each, " ", |line, give| {
                line.split_word_bounds().filter(|piece| !piece.trim().is_empty()).for_each(give);
            }),
            Unit::Symbols => self.pieces(each, " ", |line, give| line.split_whitespace().for_each(give)),
        }
    }

    fn name(&self, index: usize) -> String {
        format!("{}: window {index}", self.path.display())
    }
}

impl Windows {
    /// Windows of bytes as they lie in the file.
    fn bytes(&self, each: &mut dyn FnMut(Item) -> Result<()>) -> Result<()> {
        if self.encoding.is_some() {
            return Err(Error::usage("bytes have no encoding").hint("--step tokenise=chars reads characters"));
        }
        let mut reader = open_bytes(&self.path)?;
        let mut chunk = vec![0; BUFFER_BYTES];
        let mut window: Vec<u32> = Vec::with_capacity(self.steps + 1);
        loop {
            let count = fill(&mut reader, &mut chunk).map_err(|e| broken(&self.path, &e))?;
            for &byte in &chunk[..count] {
                window.push(u32::from(byte));
                if window.len() > self.steps {
                    each(Item::new(Raw::Tokens(window.clone())))?;
                    window.clear();
                    window.push(u32::from(byte));
                }
            }
            if count < chunk.len() {
                return Ok(());
            }
        }
    }

    /// Windows of pieces of lines, joined by what stands between them.
    fn pieces(
        &self,
        each: &mut dyn FnMut(Item) -> Result<()>,
        between: &str,
        cut: impl Fn(&str, &mut dyn FnMut(&str)),
    ) -> Result<()> {
        let mut lines = Lines::open(&self.path, self.encoding.as_deref())?;
        let (mut window, mut pieces) = (String::new(), 0);
        while let Some((_, line)) = lines.next()? {
            let mut failed = None;
            cut(line, &mut |piece| {
                if pieces > 0 {
                    window.push_str(between);
                }
                window.push_str(piece);
                pieces += 1;
                if pieces > self.steps {
                    let whole = std::mem::replace(&mut window, piece.to_owned());
                    pieces = 1;
                    if failed.is_none() {
                        failed = each(Item::new(Raw::Text(whole))).err();
                    }
                }
            });
            if let Some(failed) = failed {
                return Err(failed);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(text: &[u8], unit: Unit, steps: usize) -> Result<Vec<Raw>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        std::fs::write(&path, text).unwrap();
        let options = ReadOptions { unit, window: Some(steps), ..Default::default() };
        let source = open(&[path], &options)?.remove(0);
        let all: Vec<Raw> = source.samples.items().into_iter().map(|item| item.raw).collect();
        assert_eq!((source.about.samples, source.about.labels), (all.len(), Labels::Next));
        Ok(all)
    }

    fn texts(all: Vec<Raw>) -> Vec<String> {
        all.into_iter().map(|raw| raw.text("test").unwrap()).collect()
    }

    #[test]
    fn each_window_begins_with_the_last_token_of_the_one_before() {
        let all = opened(b"abcdefgh", Unit::Bytes, 3).unwrap();
        let wanted = [&b"abcd"[..], b"defg"].map(|w| Raw::Tokens(w.iter().map(|b| u32::from(*b)).collect()));
        assert_eq!(all, wanted);
        let long: Vec<u8> = (0..200_001_u32).map(|i| (i % 251) as u8).collect();
        assert_eq!(opened(&long, Unit::Bytes, 1000).unwrap().len(), 200);
    }

    #[test]
    fn characters_and_words_are_whole() {
        assert_eq!(texts(opened("aé\nb£cd".as_bytes(), Unit::Chars, 2).unwrap()), ["aé\n", "\nb£", "£cd"]);
        let text = b"It isn't so, he said.\n\nNo";
        assert_eq!(texts(opened(text, Unit::Words, 3).unwrap()), ["It isn't so ,", ", he said ."]);
        assert_eq!(texts(opened(text, Unit::Symbols, 2).unwrap()), ["It isn't so,", "so, he said."]);
    }

    #[test]
    fn a_text_shorter_than_a_window_is_refused() {
        assert!(opened(b"abc", Unit::Bytes, 3).unwrap_err().message().contains("is shorter than one window of 3"));
        assert!(opened(b"ab\xff\n", Unit::Chars, 1).unwrap_err().message().contains("line 1, byte 2: no UTF-8"));
        assert!(opened(b"abc", Unit::Bytes, 0).is_err());
    }
}
