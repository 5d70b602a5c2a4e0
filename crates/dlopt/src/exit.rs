//! One meaning for each exit code.

use std::process::ExitCode;

use dlopt_checkpoint::Fault;

/// Could not: the input, the disk, a signal.
pub(crate) const COULD_NOT: u8 = 1;
/// Asked wrongly.
pub(crate) const ASKED_WRONGLY: u8 = 2;
/// The work is done, and a gate was not met.
pub(crate) const GATE_NOT_MET: u8 = 3;

/// The code of an error.
pub(crate) fn for_fault(fault: Fault) -> ExitCode {
    match fault {
        Fault::Usage => ExitCode::from(ASKED_WRONGLY),
        Fault::Input | Fault::Interrupted => ExitCode::from(COULD_NOT),
    }
}

/// The code of work that is done: success, unless a gate was not met.
pub(crate) fn for_gates<'a>(mut gates: impl Iterator<Item = &'a str>) -> ExitCode {
    if gates.next().is_some() { ExitCode::from(GATE_NOT_MET) } else { ExitCode::SUCCESS }
}
