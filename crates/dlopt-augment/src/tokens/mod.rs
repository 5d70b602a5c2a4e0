//! Operations on tokens.
//!
//! All of them work on the tokens that count and never on padding; what lies behind them stays 0, which is `<pad>` in the
//! vocabularies that dlopt learns (`<unk>` is 1). At least one token is left. The label stays while what is left still
//! says it: a class of a text mostly does, a translation does not.
//!
//! Sources: EDA, Wei and Zou 2019 (arXiv 1901.11196); BERT, Devlin et al. 2018 (arXiv 1810.04805); word dropout, Bowman et
//! al. 2016 (arXiv 1511.06349); sequence cropping, Meng et al. 2021 (arXiv 2102.08473).

mod deletion;
mod insertion;
mod mask;
mod span_crop;
mod swap;
#[cfg(test)]
mod tests;
mod word_dropout;

pub(crate) use deletion::KIND as DELETION;
pub(crate) use insertion::KIND as INSERTION;
pub(crate) use mask::KIND as MASK;
pub(crate) use span_crop::KIND as SPAN_CROP;
pub(crate) use swap::KIND as SWAP;
pub(crate) use word_dropout::KIND as WORD_DROPOUT;

use crate::sample::{Data, Form, Sample, Scratch};

/// Changes the tokens that count; `work` gets them, the most there is room for, and how many tokens there are.
pub(super) fn change(sample: &mut Sample, scratch: &mut Scratch, work: impl FnOnce(&mut Vec<u32>, usize, usize)) {
    let (Form::Tokens { time, vocabulary }, Data::Tokens(all)) = (sample.form, &mut sample.data) else { return };
    let tokens = &mut scratch.numbers;
    tokens.clear();
    tokens.extend_from_slice(&all[..sample.steps.min(all.len())]);
    if tokens.is_empty() {
        return;
    }
    work(tokens, time, vocabulary);
    tokens.truncate(time);
    let (kept, padding) = all.split_at_mut(tokens.len());
    kept.copy_from_slice(tokens);
    padding.fill(0);
    sample.steps = tokens.len();
}

/// So many changes of `tokens` as a share says: at least one when the share is above 0, as EDA counts.
pub(super) fn changes_of(share: f32, tokens: usize) -> usize {
    let wanted = (f64::from(share) * tokens as f64 + 0.5) as usize;
    if share > 0.0 { wanted.max(1) } else { 0 }
}

/// Refuses a token outside the vocabulary.
pub(super) fn known(name: &str, token: u32, form: &Form) -> Result<(), String> {
    match form {
        Form::Tokens { vocabulary, .. } if token as usize >= *vocabulary => {
            Err(format!("{name} is token {token}; wanted 0 to {}", vocabulary.saturating_sub(1)))
        }
        _ => Ok(()),
    }
}
