//! `dlopt verify`: the artefact proves itself.
