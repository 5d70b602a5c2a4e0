//! Samples on their way, in a temporary file: those of different sizes, and those that must be seen before all is known.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use dlopt_checkpoint::{Context, Error, Result};

use crate::raw::{Image, Raw, Series, Values};

const BUFFER_BYTES: usize = 1 << 18;

/// A sample: what goes in, and what should come out when that is a sequence (any of several right answers).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Item {
    pub(crate) raw: Raw,
    pub(crate) targets: Vec<Raw>,
}

impl Item {
    /// A sample whose label lies elsewhere.
    pub(crate) fn new(raw: Raw) -> Self {
        Self { raw, targets: Vec::new() }
    }
}

/// Samples in a file that nobody else sees.
pub(crate) struct Spool {
    file: BufWriter<File>,
    samples: usize,
}

impl Spool {
    /// An empty one in a folder.
    pub(crate) fn create(dir: &Path) -> Result<Self> {
        let file = tempfile::tempfile_in(dir).at(dir.display())?;
        Ok(Self { file: BufWriter::with_capacity(BUFFER_BYTES, file), samples: 0 })
    }

    /// Appends a sample.
    pub(crate) fn push(&mut self, item: &Item) -> Result<()> {
        let count = u32::try_from(item.targets.len()).map_err(|_| Error::input("a sample with 2^32 right answers"))?;
        let write = |out: &mut BufWriter<File>| {
            out.write_all(&count.to_le_bytes())?;
            std::iter::once(&item.raw).chain(&item.targets).try_for_each(|raw| write_raw(raw, out))
        };
        write(&mut self.file).at("the temporary file of samples")?;
        self.samples += 1;
        Ok(())
    }

    /// Gives all samples, in order.
    pub(crate) fn read(&mut self, mut each: impl FnMut(Item) -> Result<()>) -> Result<()> {
        let place = "the temporary file of samples";
        self.file.flush().at(place)?;
        let mut file = self.file.get_ref().try_clone().at(place)?;
        file.seek(SeekFrom::Start(0)).at(place)?;
        let mut file = BufReader::with_capacity(BUFFER_BYTES, file);
        for _ in 0..self.samples {
            let count = read_u32(&mut file).at(place)?;
            let raw = read_raw(&mut file).at(place)?;
            let targets = (0..count).map(|_| read_raw(&mut file).at(place)).collect::<Result<_>>()?;
            each(Item { raw, targets })?;
        }
        Ok(())
    }
}

fn write_raw(raw: &Raw, out: &mut impl Write) -> std::io::Result<()> {
    match raw {
        Raw::Image(image) => {
            out.write_all(&[0])?;
            numbers(&[image.height, image.width, image.channels], out)?;
            write_values(&image.pixels, out)
        }
        Raw::Series(series) => {
            out.write_all(&[1])?;
            numbers(&[series.time, series.features, series.rate.map_or(0, |rate| rate as usize)], out)?;
            write_values(&series.values, out)
        }
        Raw::Row(values) => {
            out.write_all(&[2])?;
            write_values(values, out)
        }
        Raw::Text(text) => {
            out.write_all(&[3])?;
            numbers(&[text.len()], out)?;
            out.write_all(text.as_bytes())
        }
        Raw::Tokens(tokens) => {
            out.write_all(&[4])?;
            numbers(&[tokens.len()], out)?;
            tokens.iter().try_for_each(|token| out.write_all(&token.to_le_bytes()))
        }
    }
}

fn read_raw(from: &mut impl Read) -> std::io::Result<Raw> {
    Ok(match read_u8(from)? {
        0 => {
            let [height, width, channels] = [read_u64(from)?, read_u64(from)?, read_u64(from)?];
            Raw::Image(Image { height, width, channels, pixels: read_values(from)? })
        }
        1 => {
            let [time, features, rate] = [read_u64(from)?, read_u64(from)?, read_u64(from)?];
            let rate = (rate > 0).then_some(rate as u32);
            Raw::Series(Series { time, features, rate, values: read_values(from)? })
        }
        2 => Raw::Row(read_values(from)?),
        3 => {
            let mut bytes = vec![0; read_u64(from)?];
            from.read_exact(&mut bytes)?;
            Raw::Text(String::from_utf8_lossy(&bytes).into_owned())
        }
        _ => {
            let mut bytes = vec![0; 4 * read_u64(from)?];
            from.read_exact(&mut bytes)?;
            Raw::Tokens(bytes.as_chunks::<4>().0.iter().map(|&four| u32::from_le_bytes(four)).collect())
        }
    })
}

fn write_values(values: &Values, out: &mut impl Write) -> std::io::Result<()> {
    match values {
        Values::U8(values) => {
            out.write_all(&[0])?;
            numbers(&[values.len()], out)?;
            out.write_all(values)
        }
        Values::F32(values) => {
            out.write_all(&[1])?;
            numbers(&[values.len()], out)?;
            values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))
        }
    }
}

fn read_values(from: &mut impl Read) -> std::io::Result<Values> {
    let is_bytes = read_u8(from)? == 0;
    let count = read_u64(from)?;
    let mut bytes = vec![0; if is_bytes { count } else { 4 * count }];
    from.read_exact(&mut bytes)?;
    Ok(if is_bytes {
        Values::U8(bytes)
    } else {
        Values::F32(bytes.as_chunks::<4>().0.iter().map(|&four| f32::from_le_bytes(four)).collect())
    })
}

fn numbers(numbers: &[usize], out: &mut impl Write) -> std::io::Result<()> {
    numbers.iter().try_for_each(|&number| out.write_all(&(number as u64).to_le_bytes()))
}

fn read_u8(from: &mut impl Read) -> std::io::Result<u8> {
    let mut one = [0];
    from.read_exact(&mut one)?;
    Ok(one[0])
}

fn read_u32(from: &mut impl Read) -> std::io::Result<u32> {
    let mut four = [0; 4];
    from.read_exact(&mut four)?;
    Ok(u32::from_le_bytes(four))
}

fn read_u64(from: &mut impl Read) -> std::io::Result<usize> {
    let mut eight = [0; 8];
    from.read_exact(&mut eight)?;
    Ok(u64::from_le_bytes(eight) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_come_back_as_often_as_asked() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::create(dir.path()).unwrap();
        let floats = Values::F32(vec![1.5, -0.0, f32::MAX]);
        let items = [
            Item::new(Raw::Image(Image { height: 1, width: 3, channels: 1, pixels: Values::U8(vec![1, 2, 255]) })),
            Item::new(Raw::Series(Series { time: 3, features: 1, rate: Some(16_000), values: floats.clone() })),
            Item::new(Raw::Series(Series { time: 3, features: 1, rate: None, values: floats.clone() })),
            Item::new(Raw::Row(floats)),
            Item {
                raw: Raw::Text("häß".to_owned()),
                targets: vec![Raw::Tokens(vec![7, u32::MAX]), Raw::Text(String::new())],
            },
        ];
        items.iter().for_each(|item| spool.push(item).unwrap());
        for _ in 0..2 {
            let mut back = Vec::new();
            spool
                .read(|item| {
                    back.push(item);
                    Ok(())
                })
                .unwrap();
            assert_eq!(back, items);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
