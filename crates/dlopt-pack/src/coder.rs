//! A plane of symbols in as few bytes as an order-0 coder gets it to.
//!
//! | method | when |
//! |---|---|
//! | as it is | it is random, or too short for a table |
//! | one value | all symbols are the same |
//! | Huffman, by zstd without its search for matches | the usual: within some 2 % of the bound, and fast |
//! | range asymmetric numeral systems, by constriction | a symbol is so frequent that whole bits for it cost too much |

use constriction::stream::Decode;
use constriction::stream::model::ContiguousCategoricalEntropyModel;
use constriction::stream::stack::DefaultAnsCoder;
use dlopt_checkpoint::{Error, Result};
use zstd::zstd_safe::{CParameter, ParamSwitch, Strategy};

use crate::container::{put_number, take_number};

const RAW: u8 = 0;
const SAME: u8 = 1;
const HUFFMAN: u8 = 2;
const NUMERAL: u8 = 3;

/// Frequencies of the numeral system add up to `2^PRECISION`.
const PRECISION: usize = 14;
const TOTAL: u32 = 1 << PRECISION;
/// Bytes of a plane from which Huffman codes are tried: below, the frame of zstd costs more than it saves.
const WORTH_HUFFMAN: usize = 256;
/// What Huffman codes may take above the bound before the slower coder is tried.
const NEAR: f64 = 1.04;

/// A model of frequencies, as tests want it to be exact: no floats are in it.
type Frequencies = ContiguousCategoricalEntropyModel<u16, Vec<u16>, PRECISION>;

/// How often each symbol occurs.
pub(crate) fn histogram(symbols: &[u8]) -> [u32; 256] {
    // Four tables, so that equal neighbours do not wait for each other.
    let mut counts = [[0_u32; 256]; 4];
    let (quads, rest) = symbols.as_chunks::<4>();
    for quad in quads {
        for (counts, &symbol) in counts.iter_mut().zip(quad) {
            counts[usize::from(symbol)] += 1;
        }
    }
    for &symbol in rest {
        counts[0][usize::from(symbol)] += 1;
    }
    std::array::from_fn(|symbol| counts.iter().map(|counts| counts[symbol]).sum())
}

/// The fewest bytes that an order-0 code of these symbols can take: their entropy.
pub(crate) fn bound(histogram: &[u32; 256]) -> f64 {
    let total: u32 = histogram.iter().sum();
    let bits = |&count: &u32| f64::from(count) * (f64::from(total) / f64::from(count)).log2();
    histogram.iter().filter(|count| **count > 0).map(bits).sum::<f64>() / 8.0
}

/// Codes a plane. The length is not in what it returns.
pub(crate) fn encode(symbols: &[u8], histogram: &[u32; 256]) -> Result<Vec<u8>> {
    let with = |method: u8, body: &[u8]| [&[method], body].concat();
    let Some(&first) = symbols.first() else { return Ok(vec![RAW]) };
    if histogram[usize::from(first)] as usize == symbols.len() {
        return Ok(vec![SAME, first]);
    }
    let (bound, len) = (bound(histogram), symbols.len() as f64);
    let mut best = if bound < 0.99 * len && symbols.len() >= WORTH_HUFFMAN {
        Some(huffman(symbols)?).filter(|body| body.len() < symbols.len())
    } else {
        None
    };
    let found = best.as_ref().map_or(symbols.len(), Vec::len);
    if found as f64 > NEAR * bound && bound < 0.99 * len {
        let body = numerals(symbols, histogram)?;
        if body.len() < found {
            return Ok(with(NUMERAL, &body));
        }
    }
    Ok(best.take().map_or_else(|| with(RAW, symbols), |body| with(HUFFMAN, &body)))
}

/// The `len` symbols that [`encode`] made `bytes` of.
pub(crate) fn decode(bytes: &[u8], len: usize) -> Result<Vec<u8>> {
    let (&method, body) = bytes.split_first().ok_or_else(|| Error::input("a plane has no method"))?;
    let symbols = match method {
        RAW => body.to_vec(),
        SAME => match *body {
            [symbol] => vec![symbol; len],
            _ => return Err(Error::input("a plane of one value has another length")),
        },
        HUFFMAN => {
            zstd::bulk::decompress(body, len).map_err(|e| Error::input(format!("Huffman codes are broken: {e}")))?
        }
        NUMERAL => from_numerals(body, len)?,
        other => {
            return Err(Error::input(format!("a plane is coded by method {other}, which this dlopt does not know")));
        }
    };
    if symbols.len() != len {
        return Err(Error::input(format!("a plane has {} symbols, expected {len}", symbols.len())));
    }
    Ok(symbols)
}

fn huffman(symbols: &[u8]) -> Result<Vec<u8>> {
    let failed = |e: std::io::Error| Error::input(format!("zstd failed: {e}"));
    let mut coder = zstd::bulk::Compressor::new(1).map_err(failed)?;
    // Matches in planes are chance: with steps this long hardly one is looked for, and literals are Huffman-coded.
    for parameter in [
        CParameter::Strategy(Strategy::ZSTD_fast),
        CParameter::TargetLength(1 << 17),
        CParameter::LiteralCompressionMode(ParamSwitch::Enable),
        CParameter::ContentSizeFlag(false),
    ] {
        coder.set_parameter(parameter).map_err(failed)?;
    }
    coder.compress(symbols).map_err(failed)
}

/// Frequencies of at least 1 that add up to [`TOTAL`], 0 for symbols that do not occur.
fn scaled(histogram: &[u32; 256]) -> [u32; 256] {
    let total: u64 = histogram.iter().map(|count| u64::from(*count)).sum();
    let share = |count: u32| ((u64::from(count) * u64::from(TOTAL) / total) as u32).max(1);
    let mut scaled = histogram.map(|count| if count == 0 { 0 } else { share(count) });
    let most = |scaled: &[u32; 256]| (0..256).max_by_key(|&symbol| scaled[symbol]).unwrap_or(0);
    let sum: u32 = scaled.iter().sum();
    if sum <= TOTAL {
        scaled[most(&scaled)] += TOTAL - sum;
    } else {
        for _ in TOTAL..sum {
            scaled[most(&scaled)] -= 1;
        }
    }
    scaled
}

/// The model, and the symbol of each of its places.
fn model(scaled: &[u32; 256]) -> Result<(Frequencies, Vec<u8>)> {
    let places: Vec<u8> = (0..=255).filter(|&symbol| scaled[usize::from(symbol)] > 0).collect();
    let shares = places.iter().map(|&symbol| scaled[usize::from(symbol)] as u16);
    let model = Frequencies::from_nonzero_fixed_point_probabilities(shares, false);
    Ok((model.map_err(|()| Error::input("frequencies of symbols do not add up"))?, places))
}

/// First and last symbol, a frequency for each between them, and the words of the numeral.
fn numerals(symbols: &[u8], histogram: &[u32; 256]) -> Result<Vec<u8>> {
    let scaled = scaled(histogram);
    let (model, places) = model(&scaled)?;
    let mut place_of = [0; 256];
    places.iter().enumerate().for_each(|(place, symbol)| place_of[usize::from(*symbol)] = place);
    let mut coder = DefaultAnsCoder::new();
    let coded = symbols.iter().map(|symbol| place_of[usize::from(*symbol)]);
    coder.encode_iid_symbols_reverse(coded, &model).map_err(|_| Error::input("a symbol has no frequency"))?;
    let (first, last) = (places[0], places[places.len() - 1]);
    let mut out = vec![first, last];
    scaled[usize::from(first)..=usize::from(last)].iter().for_each(|share| put_number(&mut out, u64::from(*share)));
    let words = coder.into_compressed().unwrap_or_default();
    out.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    Ok(out)
}

fn from_numerals(body: &[u8], len: usize) -> Result<Vec<u8>> {
    let broken = || Error::input("a numeral is broken");
    let ([first, last], mut rest) = body.split_first_chunk::<2>().ok_or_else(broken)?;
    let mut scaled = [0_u32; 256];
    for symbol in *first..=*last {
        let share = take_number(&mut rest).ok_or_else(broken)?;
        scaled[usize::from(symbol)] = u32::try_from(share).ok().filter(|share| *share < TOTAL).ok_or_else(broken)?;
    }
    if scaled.iter().sum::<u32>() != TOTAL {
        return Err(Error::input("frequencies of symbols do not add up"));
    }
    let (model, places) = model(&scaled)?;
    let (words, odd) = rest.as_chunks::<4>();
    if !odd.is_empty() {
        return Err(broken());
    }
    let words: Vec<u32> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
    let mut coder = DefaultAnsCoder::from_compressed(words).map_err(|_| broken())?;
    let lookup = model.to_lookup_decoder_model();
    let symbols: Vec<u8> =
        coder.decode_iid_symbols(len, &lookup).map(|place| places[place.unwrap_or_default()]).collect();
    if !coder.is_empty() {
        return Err(broken());
    }
    Ok(symbols)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Numbers that look random, in 0..1.
    fn random(seed: u64, len: usize) -> impl Iterator<Item = f64> {
        (0..len as u64).map(move |i| {
            let mut x = (seed << 32 | i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            (x ^ x >> 31) as f64 / 2_f64.powi(64)
        })
    }

    fn coded(symbols: &[u8]) -> Vec<u8> {
        let coded = encode(symbols, &histogram(symbols)).unwrap();
        assert_eq!(decode(&coded, symbols.len()).unwrap(), symbols);
        coded
    }

    #[test]
    fn the_bound_is_the_entropy() {
        let mut counts = [0; 256];
        (counts[3], counts[200], counts[7]) = (50, 25, 25);
        assert!((bound(&counts) - 100.0 * 1.5 / 8.0).abs() < 1e-9);
    }

    #[test]
    fn one_value_takes_two_bytes_and_noise_one_more_than_it_has() {
        assert_eq!(coded(&[9; 70_000]), [SAME, 9]);
        let noise: Vec<u8> = random(1, 5000).map(|x| (x * 256.0) as u8).collect();
        assert_eq!(coded(&noise).len(), 5001);
        assert_eq!(coded(&[]), [RAW]);
    }

    #[test]
    fn exponents_come_near_the_bound_by_huffman_codes() {
        // A geometric distribution, as exponents of normal weights have one.
        let symbols: Vec<u8> = random(2, 1 << 17).map(|x| 120 - (-x.log2()).min(60.0) as u8).collect();
        let coded = coded(&symbols);
        assert_eq!(coded[0], HUFFMAN);
        let bound = bound(&histogram(&symbols));
        assert!((coded.len() as f64) < NEAR * bound, "{} of {bound}", coded.len());
    }

    #[test]
    fn a_plane_of_mostly_zeros_takes_less_than_a_bit_a_symbol() {
        let symbols: Vec<u8> = random(3, 200_000)
            .zip(random(4, 200_000))
            .map(|(x, y)| if x < 0.93 { 16 } else { (y * 32.0) as u8 })
            .collect();
        let coded = coded(&symbols);
        assert_eq!(coded[0], NUMERAL);
        let bound = bound(&histogram(&symbols));
        assert!((coded.len() as f64) < 1.01 * bound + 80.0, "{} of {bound}", coded.len());
    }

    #[test]
    fn all_symbols_at_once_and_rare_ones_keep_a_share() {
        let mut symbols: Vec<u8> = vec![7; 3_000_000];
        symbols.extend(0..=255);
        assert_eq!(scaled(&histogram(&symbols)).iter().sum::<u32>(), TOTAL);
        coded(&symbols);
    }

    #[test]
    fn what_is_broken_is_an_error() {
        let symbols: Vec<u8> = random(5, 4000).map(|x| u8::from(x > 0.9)).collect();
        let good = coded(&symbols);
        assert_eq!(good[0], NUMERAL);
        for len in 0..good.len() {
            assert!(decode(&good[..len], symbols.len()).ok().is_none_or(|found| found != symbols), "{len}");
        }
        assert!(decode(&[9, 1, 2], 3).unwrap_err().message().contains("method 9"));
        assert!(decode(&[SAME], 3).is_err() && decode(&[RAW, 1], 3).is_err());
    }

    proptest! {
        #[test]
        fn any_plane_comes_back(symbols in proptest::collection::vec(0_u8..5, 0..600), spread: u8) {
            let symbols: Vec<u8> = symbols.iter().map(|s| s.wrapping_mul(spread)).collect();
            coded(&symbols);
        }

        #[test]
        fn any_bytes_are_symbols_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200), len in 0_usize..5000) {
            if let Ok(symbols) = decode(&bytes, len) {
                prop_assert_eq!(symbols.len(), len);
            }
        }
    }
}
