//! Pictures to grey or RGB, sounds to mono.
//!
//! Pictures as the steps `grey` and `rgb` do it, over black where they are transparent. Mono is the mean of the channels.

use dlopt_checkpoint::{Error, Result};

use super::grey::{Grey, Rgb};
use crate::raw::{Raw, Series, Values, wrong};
use crate::sound::mono;
use crate::step::Step;

/// A picture or sound with this number of channels.
pub(crate) fn with_channels(raw: Raw, to: usize) -> Result<Raw> {
    match raw {
        Raw::Image(image) if image.channels == to => Ok(Raw::Image(image)),
        Raw::Image(_) if to == 1 => Grey::default().apply(raw),
        Raw::Image(_) if to == 3 => Rgb::default().apply(raw),
        Raw::Series(series) if series.rate.is_some() && series.features == to => Ok(Raw::Series(series)),
        Raw::Series(Series { rate: Some(_), .. }) if to == 1 => {
            let (values, rate) = mono(&raw, "channels")?;
            let values = values.into_owned();
            Ok(Raw::Series(Series { time: values.len(), features: 1, rate: Some(rate), values: Values::F32(values) }))
        }
        raw @ (Raw::Image(_) | Raw::Series(Series { rate: Some(_), .. })) => Err(Error::usage(format!(
            "`channels` makes 1 or 3 channels of pictures and 1 of sounds, not {to} of {}",
            raw.kind()
        ))),
        other => Err(wrong("channels", "pictures and sounds", &other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::Image;

    fn pixels(channels: usize, own: &[u8], to: usize) -> Vec<u8> {
        let image = Image { height: 1, width: 1, channels, pixels: Values::U8(own.to_vec()) };
        match with_channels(Raw::Image(image), to).unwrap() {
            Raw::Image(Image { pixels: Values::U8(pixels), channels, .. }) if channels == to => pixels,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn pictures_are_converted() {
        assert_eq!(pixels(3, &[255, 0, 0], 1), [76]);
        assert_eq!(pixels(3, &[10, 200, 30], 1), [124]);
        assert_eq!(pixels(1, &[7], 3), [7, 7, 7]);
        assert_eq!(pixels(4, &[1, 2, 3, 255], 3), [1, 2, 3]);
        assert_eq!(pixels(2, &[9, 255], 1), [9]);
    }

    #[test]
    fn sounds_become_mono() {
        let values = Values::F32(vec![1.0, 0.0, 0.5, -0.5]);
        let stereo = Raw::Series(Series { time: 2, features: 2, rate: Some(8000), values });
        let Raw::Series(mono) = with_channels(stereo.clone(), 1).unwrap() else { panic!("a sound") };
        assert_eq!((mono.time, mono.features, mono.values), (2, 1, Values::F32(vec![0.5, 0.0])));
        assert!(with_channels(stereo, 3).is_err());
        assert!(with_channels(Raw::Text(String::new()), 1).is_err());
    }
}
