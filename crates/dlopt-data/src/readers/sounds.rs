//! One sound from a file: WAV, FLAC, Ogg Vorbis, MP3, told apart by content.
//!
//! `[time, channels]`, -1 to 1 (floats as the file has them), at the file's own rate. What a header claims is checked
//! before anything is decoded: at most 2^28 values. A file that ends before its header says is an error, not a short
//! sound; an MP3 without a header of LAME does not say, and only a broken last frame shows.

use std::io::Cursor;
use std::path::Path;

use dlopt_checkpoint::{Context, Error, Result};
use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::AudioDecoderOptions;
use symphonia::core::errors::Error as Broken;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;

use super::MOST_ELEMENTS;
use crate::raw::{Series, Values};

/// Endings of file names of sounds, in lower case.
pub(super) const EXTENSIONS: &[&str] = &["wav", "wave", "flac", "ogg", "oga", "mp3"];

/// Largest file that is read.
const MOST_BYTES: u64 = 1 << 30;

/// Reads a sound file.
///
/// # Errors
/// When it cannot be read, is no sound, is damaged, cut short or too long; the error names it.
pub fn read(path: &Path) -> Result<Series> {
    let bytes = path.metadata().at(path.display())?.len();
    if bytes > MOST_BYTES {
        return Err(Error::input(format!("{}: has {bytes} bytes; a sound has at most {MOST_BYTES}", path.display())));
    }
    let bytes = std::fs::read(path).at(path.display())?;
    decode(bytes).map_err(|e| e.within(path.display()))
}

/// Decodes the bytes of a sound file.
///
/// # Errors
/// When they are no sound, damaged, cut short or too long.
pub(crate) fn decode(bytes: Vec<u8>) -> Result<Series> {
    if bytes.is_empty() {
        return Err(Error::input("is empty; wanted a sound"));
    }
    check_ogg(&bytes)?;
    let stream = MediaSourceStream::new(Box::new(Cursor::new(bytes)), Default::default());
    let probe = symphonia::default::get_probe();
    let mut format = probe
        .probe(&Hint::new(), stream, FormatOptions::default(), MetadataOptions::default())
        .map_err(|e| if is_end(&e) { unknown() } else { damaged(&e) })?;
    let track = format.default_track(TrackType::Audio).ok_or_else(|| Error::input("holds no sound track"))?;
    let Some(CodecParameters::Audio(params)) = &track.codec_params else {
        return Err(Error::input("does not say how its sound is coded"));
    };
    let (id, claimed) = (track.id, track.num_frames);
    let channels = params.channels.as_ref().map_or(1, |channels| channels.count());
    if let Some(frames) = claimed.filter(|frames| frames.saturating_mul(channels as u64) > MOST_ELEMENTS as u64) {
        return Err(Error::input(format!(
            "claims {frames} samples of {channels} channels; a sound has at most {MOST_ELEMENTS} values"
        ))
        .hint("its header is damaged, or it was written into a pipe: cut or convert it"));
    }
    let mut decoder = symphonia::default::get_codecs()
        .make_audio_decoder(params, &AudioDecoderOptions::default().verify(true))
        .map_err(|e| damaged(&e))?;
    let mut sound = Sound::default();
    let mut part = Vec::new();
    while let Some(packet) = next_packet(&mut *format)? {
        if packet.track_id != id {
            continue;
        }
        let decoded =
            decoder.decode(&packet).map_err(|e| if is_end(&e) { cut_short(&sound, claimed) } else { damaged(&e) })?;
        let spec = decoded.spec();
        sound.check(spec.rate(), spec.channels().count())?;
        decoded.copy_to_vec_interleaved::<f32>(&mut part);
        sound.take(&part)?;
    }
    if decoder.finalize().verify_ok == Some(false) {
        return Err(Error::input("a damaged sound: its samples do not have the checksum that it holds"));
    }
    if claimed.is_some_and(|claimed| sound.time() < claimed) {
        return Err(cut_short(&sound, claimed));
    }
    sound.finish()
}

fn next_packet(format: &mut dyn FormatReader) -> Result<Option<symphonia::core::packet::Packet>> {
    match format.next_packet() {
        Ok(packet) => Ok(packet),
        // What is missing is found out when the samples are counted.
        Err(e) if is_end(&e) => Ok(None),
        Err(Broken::ResetRequired) => {
            Err(Error::input("holds several sounds one after the other").hint("make a file of each"))
        }
        Err(e) => Err(damaged(&e)),
    }
}

/// What was decoded so far.
#[derive(Default)]
struct Sound {
    rate: u32,
    channels: usize,
    values: Vec<f32>,
}

impl Sound {
    fn time(&self) -> u64 {
        (self.values.len() / self.channels.max(1)) as u64
    }

    /// Rate and channels must stay as they began.
    fn check(&mut self, rate: u32, channels: usize) -> Result<()> {
        if rate == 0 || channels == 0 {
            return Err(Error::input(format!("claims {rate} samples a second of {channels} channels")));
        }
        if self.rate == 0 {
            (self.rate, self.channels) = (rate, channels);
        }
        if (rate, channels) != (self.rate, self.channels) {
            return Err(Error::input(format!(
                "has {} samples a second of {} channels, and from sample {} on {rate} of {channels}",
                self.rate,
                self.channels,
                self.time()
            ))
            .hint("make a file of each part"));
        }
        Ok(())
    }

    fn take(&mut self, part: &[f32]) -> Result<()> {
        if self.values.len() + part.len() > MOST_ELEMENTS {
            return Err(Error::input(format!("goes on after {MOST_ELEMENTS} values, the most a sound may have"))
                .hint("cut it into parts"));
        }
        if let Some(place) = part.iter().position(|value| !value.is_finite()) {
            let place = (self.values.len() + place) / self.channels.max(1);
            return Err(Error::input(format!("sample {place} is not a finite number")));
        }
        self.values.extend_from_slice(part);
        Ok(())
    }

    fn finish(self) -> Result<Series> {
        if self.values.is_empty() {
            return Err(Error::input("holds a sound of no samples"));
        }
        let time = self.values.len() / self.channels;
        Ok(Series { time, features: self.channels, rate: Some(self.rate), values: Values::F32(self.values) })
    }
}

/// Refuses an Ogg file whose last page is not its last: without this what is missing would not be missed.
fn check_ogg(bytes: &[u8]) -> Result<()> {
    if !bytes.starts_with(b"OggS") {
        return Ok(());
    }
    let mut at = 0;
    let mut is_last = false;
    // Capture, version, flags, 20 bytes of numbers, count of segments, their sizes, data.
    while let Some([b'O', b'g', b'g', b'S', _, flags, rest @ ..]) = bytes.get(at..) {
        let sizes = rest.get(20).and_then(|&count| rest.get(21..21 + usize::from(count)));
        let Some(sizes) = sizes else { return Err(ends("inside a page")) };
        at += 27 + sizes.len() + sizes.iter().map(|&size| usize::from(size)).sum::<usize>();
        is_last = flags & 4 != 0;
    }
    if at > bytes.len() {
        return Err(ends("inside a page"));
    }
    if is_last { Ok(()) } else { Err(ends("before its last page")) }
}

fn ends(place: &str) -> Error {
    Error::input(format!("a sound that was cut short: it ends {place}")).hint("fetch the file again")
}

fn cut_short(sound: &Sound, claimed: Option<u64>) -> Error {
    match claimed {
        Some(claimed) => ends(&format!("after {} of {claimed} samples", sound.time())),
        None => ends(&format!("inside a frame, after {} samples", sound.time())),
    }
}

fn is_end(e: &Broken) -> bool {
    matches!(e, Broken::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof)
}

fn unknown() -> Error {
    Error::input("is no sound that dlopt reads").hint("it reads WAV, FLAC, Ogg Vorbis and MP3")
}

fn damaged(e: &Broken) -> Error {
    match e {
        Broken::Unsupported(_) => unknown(),
        Broken::LimitError(what) => Error::input(format!("takes more than a sound may: {what}")),
        e => Error::input(format!("a damaged sound: {e}")),
    }
}

/// A WAV file of 16-bit samples, for tests.
#[cfg(test)]
pub(super) fn wav(rate: u32, channels: u16, samples: &[i16]) -> Vec<u8> {
    let data = samples.len() as u32 * 2;
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((36 + data).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0\x01\0");
    bytes.extend(channels.to_le_bytes());
    bytes.extend(rate.to_le_bytes());
    bytes.extend((rate * 2 * u32::from(channels)).to_le_bytes());
    bytes.extend((2 * channels).to_le_bytes());
    bytes.extend(b"\x10\0data");
    bytes.extend(data.to_le_bytes());
    samples.iter().for_each(|sample| bytes.extend(sample.to_le_bytes()));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> Vec<u8> {
        std::fs::read(format!("{}/../../fixtures/sounds/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    /// 440 Hz at half of full scale, as the fixtures hold it.
    fn tone(level: f64) -> Vec<f32> {
        let value = |i: usize| (level * (2.0 * std::f64::consts::PI * 440.0 * i as f64 / 8000.0).sin()) as i16;
        (0..2000).map(|i| f32::from(value(i)) / 32768.0).collect()
    }

    fn floats(sound: &Series) -> &[f32] {
        let Values::F32(values) = &sound.values else { panic!("bytes") };
        values
    }

    fn refused(bytes: &[u8]) -> String {
        decode(bytes.to_vec()).unwrap_err().message().to_owned()
    }

    #[test]
    fn wav_and_flac_are_exact_and_channels_stay() {
        let sound = decode(wav(11_025, 2, &[0, 16384, -32768, 32767])).unwrap();
        assert_eq!((sound.time, sound.features, sound.rate), (2, 2, Some(11_025)));
        assert_eq!(floats(&sound), [0.0, 0.5, -1.0, 32767.0 / 32768.0]);
        let mono = decode(fixture("tone.flac")).unwrap();
        assert_eq!((mono.time, mono.features, mono.rate), (2000, 1, Some(8000)));
        assert_eq!(floats(&mono), tone(16384.0));
        let stereo = decode(fixture("stereo.flac")).unwrap();
        assert_eq!((stereo.time, stereo.features), (2000, 2));
        assert!(floats(&stereo).iter().skip(1).step_by(2).copied().eq(tone(8192.0)));
    }

    #[test]
    fn vorbis_and_mp3_are_close_and_as_long() {
        for name in ["tone.ogg", "tone.mp3"] {
            let sound = decode(fixture(name)).unwrap();
            assert_eq!((sound.time, sound.features, sound.rate), (2000, 1, Some(8000)), "{name}");
            // The ends of a lossy sound ring.
            let far = floats(&sound).iter().zip(tone(16384.0)).skip(200).take(1600);
            let worst = far.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 0.05, "{name}: {worst}");
        }
    }

    #[test]
    fn sounds_that_were_cut_short_are_named() {
        for name in ["tone.flac", "tone.ogg", "tone.mp3"] {
            let whole = fixture(name);
            for part in [whole.len() * 9 / 10, whole.len() - 1] {
                let said = refused(&whole[..part]);
                assert!(said.contains("cut short") || said.contains("damaged"), "{name} to {part}: {said}");
            }
        }
        let whole = wav(8000, 1, &[7; 900]);
        assert!(refused(&whole[..whole.len() - 100]).contains("cut short: it ends after 850 of 900 samples"));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cut.wav");
        std::fs::write(&path, &whole[..200]).unwrap();
        assert!(read(&path).unwrap_err().message().contains("cut.wav: a sound that was cut short"));
    }

    #[test]
    fn claims_are_checked_before_memory_is_taken() {
        let mut long = wav(8000, 1, &[7; 9]);
        long[4..8].copy_from_slice(&0x7fff_f024_u32.to_le_bytes());
        long[40..44].copy_from_slice(&0x7fff_f000_u32.to_le_bytes());
        let said = refused(&long);
        assert!(said.contains("claims 1073739776 samples of 1 channels; a sound has at most 268435456"), "{said}");
        let still = wav(0, 1, &[7; 9]);
        let said = refused(&still);
        assert!(said.contains("0 samples a second") || said.contains("damaged"), "{said}");
        assert!(refused(&wav(8000, 1, &[])).contains("no samples"));
    }

    #[test]
    fn what_is_no_sound_is_refused() {
        assert!(refused(b"").contains("is empty"));
        assert!(refused(b"hello, this is text").contains("no sound that dlopt reads"));
        // Vorbis pages of something else.
        assert!(refused(b"OggS").contains("cut short"));
        let mut bits = fixture("tone.flac");
        let middle = bits.len() / 2;
        bits[middle] ^= 1;
        assert!(refused(&bits).contains("damaged") || refused(&bits).contains("cut short"), "{}", refused(&bits));
    }

    #[test]
    fn any_bytes_are_an_error_or_a_sound() {
        for name in ["tone.flac", "tone.ogg", "tone.mp3"] {
            let whole = fixture(name);
            for seed in 0..60_usize {
                let mut bytes = whole.clone();
                let place = (seed * 7919) % bytes.len().min(if seed % 2 == 0 { 120 } else { usize::MAX });
                bytes[place] ^= 1 << (seed % 8);
                let _ = decode(bytes);
            }
        }
    }
}
