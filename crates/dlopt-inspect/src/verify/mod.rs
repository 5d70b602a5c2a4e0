//! Verify: a checkpoint proves itself, by its headers alone or by every weight.
//!
//! Each check is one file. An **error** means that some reader would refuse the checkpoint or compute something else
//! than was meant; a **warning** is what people should know. What a pass of dlopt writes has no errors.

mod claims;
mod config;
mod files;
mod header;
mod layout;
mod quantization;
mod targets;
mod values;

use std::path::Path;

use dlopt_checkpoint::{Checkpoint, Error, Fault, Resources, Result, Tensors, read_history};
use serde::Serialize;

use crate::decode::{Decoded, decoded, make_readable};
use crate::stats::Scan;

/// What to verify.
#[derive(Clone, Copy, Debug, Default)]
pub struct VerifyOptions {
    /// Look at headers and small files only; no weight is read.
    pub is_quick: bool,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// A reader would refuse the checkpoint, or compute something else than was meant.
    Error,
    /// People should know.
    Warning,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The check that found it.
    pub check: &'static str,
    /// The file it is about, when it is about one.
    pub file: Option<String>,
    /// The tensor it is about, when it is about one.
    pub tensor: Option<String>,
    /// What is wrong, and what was expected.
    pub what: String,
}

/// One check, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// What it looked at, in one line.
    pub what: String,
    /// Why it was left out, when it was.
    pub skipped: Option<String>,
}

/// The outcome of a verify.
#[derive(Clone, Debug, Serialize)]
pub struct Verification {
    /// The file, folder or stream.
    pub name: String,
    /// Every check, in order.
    pub checks: Vec<Check>,
    /// Everything found, errors first, else in the order of the checks.
    pub findings: Vec<Finding>,
    /// Whether there are no errors.
    pub is_ok: bool,
}

/// Opens and verifies a file or folder; one that cannot be opened is a finding too.
///
/// # Errors
/// When the work is stopped from outside.
pub fn verify_path(path: &Path, options: VerifyOptions, resources: &Resources<'_>) -> Result<Verification> {
    match Checkpoint::open(path) {
        Ok(checkpoint) => verify(&checkpoint, options, resources),
        Err(error) => {
            let mut found = Found::default();
            found.check("header", "format, offsets, dtypes, index");
            found.failed(&error)?;
            Ok(found.finish(path.display().to_string()))
        }
    }
}

/// Verifies an open checkpoint.
///
/// # Errors
/// When the work is stopped from outside. Everything else is a finding.
pub fn verify(checkpoint: &Checkpoint, options: VerifyOptions, resources: &Resources<'_>) -> Result<Verification> {
    let mut found = Found::default();
    header::check(checkpoint, &mut found);
    files::check(checkpoint, options.is_quick, &mut found);
    found.check("history", "`dlopt.history` is readable");
    if let Err(error) = read_history(&checkpoint.header) {
        found.failed(&error)?;
    }
    quantization::check(&checkpoint.header, &mut found);
    layout::check(&checkpoint.header, &mut found);
    found.check("decode", "every stored part fits the tensor it is a part of");
    let mut has_decoded = false;
    let outcome = decoded(checkpoint, |view| {
        has_decoded = true;
        config::check(view.header(), &mut found);
        if options.is_quick {
            found.skip("values", "scales, codes and zero points", "only headers were asked for");
            found.skip("weights", "no NaN, no infinity", "only headers were asked for");
            found.skip("claims", "sparsity and patterns that the history claims", "only headers were asked for");
            return Ok(());
        }
        make_readable(checkpoint, resources)?;
        values::check(checkpoint, resources, &mut found)?;
        let claims = claims::read_claims(&checkpoint.header, &mut found);
        found.check("weights", "no NaN, no infinity");
        let scans = claims::scan(view, &claims, resources)?;
        check_finite(view, &scans, &mut found);
        claims::check(view, &claims, &scans, resources, &mut found)
    });
    if let Err(error) = outcome {
        found.failed(&error)?;
        if !has_decoded {
            found.skip("weights", "no NaN, no infinity", "the checkpoint cannot be decoded");
        }
    }
    Ok(found.finish(checkpoint.name.clone()))
}

fn check_finite(view: &Decoded<'_>, scans: &[Scan], found: &mut Found) {
    for (info, scan) in view.header().tensors.iter().zip(scans) {
        if let Some(first) = scan.first_nan {
            found.warn(&info.name, format!("{} NaN, the first at index {first}", scan.spread.nans));
        }
        if let Some(first) = scan.first_infinity {
            found.warn(&info.name, format!("{} infinities, the first at index {first}", scan.spread.infinities));
        }
    }
}

/// Checks and findings as they come.
#[derive(Default)]
struct Found {
    checks: Vec<Check>,
    findings: Vec<Finding>,
}

impl Found {
    /// Begins a check; findings after it are its own.
    fn check(&mut self, name: &'static str, what: impl Into<String>) {
        self.checks.push(Check { name, what: what.into(), skipped: None });
    }

    /// A check that was left out.
    fn skip(&mut self, name: &'static str, what: &str, why: impl Into<String>) {
        self.checks.push(Check { name, what: what.to_owned(), skipped: Some(why.into()) });
    }

    fn error(&mut self, tensor: &str, what: impl Into<String>) {
        self.push(Severity::Error, None, Some(tensor), what.into());
    }

    fn warn(&mut self, tensor: &str, what: impl Into<String>) {
        self.push(Severity::Warning, None, Some(tensor), what.into());
    }

    fn file_error(&mut self, file: &str, what: impl Into<String>) {
        self.push(Severity::Error, Some(file), None, what.into());
    }

    fn file_warning(&mut self, file: &str, what: impl Into<String>) {
        self.push(Severity::Warning, Some(file), None, what.into());
    }

    fn model_error(&mut self, what: impl Into<String>) {
        self.push(Severity::Error, None, None, what.into());
    }

    fn model_warning(&mut self, what: impl Into<String>) {
        self.push(Severity::Warning, None, None, what.into());
    }

    /// An error of the library becomes a finding, unless somebody stopped the work.
    fn failed(&mut self, error: &Error) -> Result<()> {
        if error.fault() == Fault::Interrupted {
            return Err(error.clone());
        }
        self.model_error(error.message());
        Ok(())
    }

    fn push(&mut self, severity: Severity, file: Option<&str>, tensor: Option<&str>, what: String) {
        let check = self.checks.iter().rev().find(|c| c.skipped.is_none()).map_or("header", |c| c.name);
        let (file, tensor) = (file.map(str::to_owned), tensor.map(str::to_owned));
        self.findings.push(Finding { severity, check, file, tensor, what });
    }

    fn finish(mut self, name: String) -> Verification {
        self.findings.sort_by_key(|f| f.severity);
        let is_ok = self.findings.iter().all(|f| f.severity != Severity::Error);
        Verification { name, checks: self.checks, findings: self.findings, is_ok }
    }
}
