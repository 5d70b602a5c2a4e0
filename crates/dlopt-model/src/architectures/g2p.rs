//! Letters to phonemes: the pair of GRUs of the Python package `g2p-en` 2.1.0 (Park and Kim, 2019), trained on CMUdict.
//!
//! `enc_emb` `[29, size]` and `dec_emb` `[74, size]`, of each side `w_ih`, `w_hh`, `b_ih`, `b_hh` as PyTorch's GRU has them,
//! `fc_w` `[74, hidden]`, `fc_b`. The encoder reads the letters and an end; at most twenty phonemes come out.

use dlopt_checkpoint::Header;
use serde_json::{Value, json};

use super::{Architecture, shape};
use crate::config::ModelConfig;
use crate::description::{Attention, Description, Layer, LayerType, Seq2seq, SequenceCell};
use crate::plan::Shape;

pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "g2p",
    summary: "letters to phonemes: the GRU encoder and decoder of g2p-en",
    source: "Park and Kim, 2019, g2p-en 2.1.0",
    recognize,
    names: &[
        ("encoder.embedding.weight", "enc_emb"),
        ("encoder.gru.weight_ih_l0", "enc_w_ih"),
        ("encoder.gru.weight_hh_l0", "enc_w_hh"),
        ("encoder.gru.bias_ih_l0", "enc_b_ih"),
        ("encoder.gru.bias_hh_l0", "enc_b_hh"),
        ("decoder.embedding.weight", "dec_emb"),
        ("decoder.gru.weight_ih_l0", "dec_w_ih"),
        ("decoder.gru.weight_hh_l0", "dec_w_hh"),
        ("decoder.gru.bias_ih_l0", "dec_b_ih"),
        ("decoder.gru.bias_hh_l0", "dec_b_hh"),
        ("output.weight", "fc_w"),
        ("output.bias", "fc_b"),
    ],
};

/// What stands before the letters a to z.
const LETTERS: [&str; 3] = ["<pad>", "<unk>", "</s>"];
/// What stands before the phonemes, and they.
const PHONEMES: &str = "<pad> <unk> <s> </s> \
    AA0 AA1 AA2 AE0 AE1 AE2 AH0 AH1 AH2 AO0 AO1 AO2 AW0 AW1 AW2 AY0 AY1 AY2 B CH D DH EH0 EH1 EH2 ER0 ER1 ER2 EY0 EY1 \
    EY2 F G HH IH0 IH1 IH2 IY0 IY1 IY2 JH K L M N NG OW0 OW1 OW2 OY0 OY1 OY2 P R S SH T TH UH0 UH1 UH2 UW UW0 UW1 UW2 V \
    W Y Z ZH";
const START: u32 = 2;
const END: u32 = 3;
/// Letters of the longest word of CMUdict, with the end.
const TIME: usize = 29;
/// Phonemes that come out at most.
const STEPS: usize = 20;

fn recognize(header: &Header) -> Option<ModelConfig> {
    let (letters, phonemes) = (LETTERS.len() + 26, PHONEMES.split_whitespace().count());
    let is_its = |(_, name): &(&str, &str)| shape(header, name).is_some();
    if header.tensors.len() != ARCHITECTURE.names.len() || !ARCHITECTURE.names.iter().all(is_its) {
        return None;
    }
    let &[vocabulary, embedding] = shape(header, "enc_emb")? else { return None };
    let &[outputs, hidden] = shape(header, "fc_w")? else { return None };
    if (vocabulary, outputs) != (letters, phonemes) {
        return None;
    }
    let layer = Seq2seq {
        embedding,
        cell: SequenceCell::Gru,
        hidden,
        attention: Attention::None,
        dropout: 0.0,
        vocabulary: Some(vocabulary),
        steps: Some(STEPS),
        start: Some(START),
        end: Some(END),
    };
    let description = Description {
        summary: Some(ARCHITECTURE.summary.to_owned()),
        source: Some(ARCHITECTURE.source.to_owned()),
        layers: vec![Layer { name: None, kind: LayerType::Seq2seq(layer) }],
        ..Description::default()
    };
    let mut config = ModelConfig::new(&description, Shape::Tokens { time: TIME }, outputs, Vec::new()).ok()?;
    config.is_per_step = true;
    config.preprocessing = preprocessing();
    Some(config)
}

/// How a word becomes tokens, and tokens phonemes, as datasets say it.
fn preprocessing() -> Value {
    let letters: Vec<String> = LETTERS.iter().map(|s| (*s).to_owned()).chain(('a'..='z').map(String::from)).collect();
    let phonemes: Vec<&str> = PHONEMES.split_whitespace().collect();
    json!({
        "elements": { "kind": "tokens", "time": TIME, "vocabulary": letters.len() },
        "dtype": "U8",
        "scale": 1.0,
        "raw": { "kind": "text" },
        "steps": [{ "step": "tokenise", "how": "chars", "lowercase": true, "bounds": false, "end": true, "symbols": letters }],
        "sequence_steps": [
            { "step": "tokenise", "how": "symbols", "lowercase": false, "bounds": true, "end": false, "symbols": phonemes },
        ],
        "learns": {
            "kind": "sequence", "time": STEPS, "vocabulary": phonemes.len(), "start": START, "end": END,
        },
    })
}

#[cfg(test)]
mod tests {
    use dlopt_checkpoint::{Dtype, TensorInfo};

    use super::*;
    use crate::layout::FlatLayout;

    fn header(letters: usize) -> Header {
        let shapes = |name: &str| match name.rsplit_once('_').map_or(name, |(_, own)| own) {
            "emb" if name.starts_with("enc") => vec![letters, 6],
            "emb" => vec![74, 6],
            "ih" if name.contains("_w_") => vec![15, 6],
            "hh" if name.contains("_w_") => vec![15, 5],
            "w" => vec![74, 5],
            "b" => vec![74],
            _ => vec![15],
        };
        let tensors = ARCHITECTURE.names.iter().map(|(_, n)| TensorInfo::new(*n, Dtype::F32, shapes(n))).collect();
        Header { tensors, ..Header::default() }
    }

    #[test]
    fn its_tensors_are_those_of_the_plan() {
        let header = header(29);
        let (own, config) = Architecture::of(&header).unwrap();
        let layout = FlatLayout::of(&config.resolve().unwrap());
        assert_eq!(layout.tensors().len(), header.tensors.len());
        for stored in &header.tensors {
            let name = own.name_of(&stored.name);
            let tensor = layout.tensors().iter().find(|t| t.name == name).unwrap();
            assert_eq!(tensor.shape, stored.shape, "{name}");
        }
        assert_eq!(ModelConfig::from_json(&config.to_json()).unwrap(), config);
    }

    #[test]
    fn other_tensors_are_not_its() {
        assert!(Architecture::of(&header(30)).is_none());
        let mut more = header(29);
        more.tensors.push(TensorInfo::new("more", Dtype::F32, [3]));
        assert!(Architecture::of(&more).is_none());
        assert!(Architecture::of(&Header::default()).is_none());
    }
}
