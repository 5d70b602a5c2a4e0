//! What a distillation came to: teacher, students, controls side by side.

use std::fmt::Write;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use dlopt_checkpoint::{Checkpoint, Result};
use dlopt_data::Dataset;
use dlopt_distill::{Answers, Cost, Figures, Gain, Role, Teacher, measure, measure_teacher};
use dlopt_metrics::{DistillationRole, EpochRecord, distillation_svg};
use dlopt_train::Settings;
use serde::Serialize;

use super::runs::{Finished, Run};
use super::{DistillArgs, Work};
use crate::job;
use crate::messages;
use crate::streams;
use crate::tables::{columns, grouped};

/// What the teacher says of the test split, and what it costs.
pub(super) struct Taught {
    answers: Answers,
    figures: Figures,
    costs: Vec<Cost>,
}

/// What `--json` and `--report` say.
#[derive(Serialize)]
pub(super) struct Report {
    /// The split that all are compared on.
    split: Option<String>,
    /// Samples of the split, or tokens of its sequences.
    rows: usize,
    teacher: Option<TeacherReport>,
    student: Option<RoleReport>,
    control: Option<RoleReport>,
    /// Students less controls.
    gain: Option<Gain>,
    settings: Settings,
    control_settings: Option<Settings>,
    histories: Vec<History>,
    output: Option<String>,
}

#[derive(Serialize)]
struct TeacherReport {
    /// Of several, what their mean answer is worth.
    #[serde(flatten)]
    figures: Figures,
    /// Each network's.
    costs: Vec<Cost>,
}

#[derive(Serialize)]
struct RoleReport {
    #[serde(flatten)]
    role: Role,
    /// Of the first run.
    cost: Cost,
}

#[derive(Serialize)]
struct History {
    role: &'static str,
    seed: u64,
    epochs: Vec<EpochRecord>,
}

impl Taught {
    /// Asks the teacher about the test split.
    pub(super) fn of(
        teacher: &mut Teacher,
        dataset: &Arc<Dataset>,
        range: &Range<usize>,
        stop: &AtomicBool,
    ) -> Result<Self> {
        let (answers, costs) = measure_teacher(teacher, dataset, range.clone(), stop)?;
        Ok(Self { figures: answers.figures(None)?, answers, costs })
    }
}

impl Report {
    /// Measures all runs on the test split.
    pub(super) fn of(
        work: &Work<'_>,
        finished: &Finished,
        taught: Option<Taught>,
        test: Option<(String, Range<usize>)>,
    ) -> Result<Self> {
        let role = |runs: &[Run]| -> Result<Option<(RoleReport, usize)>> {
            let (Some((_, range)), Some(_)) = (&test, runs.first()) else { return Ok(None) };
            let (mut figures, mut cost, mut rows) = (Vec::new(), None, 0);
            for run in runs {
                let checkpoint = Checkpoint::open(&run.path)?;
                let device = &work.args.training.device;
                let (answers, own) = measure(&checkpoint, &work.dataset, range.clone(), device, &work.team, work.stop)?;
                rows = answers.outputs.len() / answers.width.max(1);
                figures.push(answers.figures(taught.as_ref().map(|taught| &taught.answers))?);
                cost.get_or_insert(own);
            }
            Ok(cost.map(|cost| (RoleReport { role: Role::of(figures), cost }, rows)))
        };
        let (student, rows) = role(&finished.students)?.map_or((None, 0), |(role, rows)| (Some(role), rows));
        let control = role(&finished.controls)?.map(|(role, _)| role);
        let gain = match (&student, &control) {
            (Some(student), Some(control)) => {
                Some(Gain::of(&student.role, &control.role, taught.as_ref().map(|taught| &taught.figures)))
            }
            _ => None,
        };
        let history =
            |role: &'static str| move |run: &Run| History { role, seed: run.seed, epochs: run.history.clone() };
        let students = finished.students.iter().map(history("student"));
        Ok(Self {
            split: test.map(|(name, _)| name),
            rows,
            teacher: taught.map(|taught| TeacherReport { figures: taught.figures, costs: taught.costs }),
            student,
            control,
            gain,
            settings: finished.students[0].settings.clone(),
            control_settings: finished.controls.first().map(|run| run.settings.clone()),
            histories: students.chain(finished.controls.iter().map(history("control"))).collect(),
            output: work.args.output.as_ref().map(|path| path.display().to_string()),
        })
    }

    /// Prints it as it was asked for.
    pub(super) fn tell(&self, args: &DistillArgs) -> Result<()> {
        job::write_report(args.report.report.as_deref(), self)?;
        if args.report.json {
            let is_free = args.output.as_deref().is_some_and(|path| path != Path::new("-"));
            if is_free { streams::print_json(self)? } else { messages::tell(&streams::json(self)) }
        } else if !args.report.quiet {
            messages::tell(&self.text());
        }
        Ok(())
    }

    /// For people.
    fn text(&self) -> String {
        let mut text = String::new();
        if let Some(split) = &self.split {
            let _ = writeln!(text, "\n{} rows of the split `{split}`", grouped(self.rows as u64));
            text.push_str(&self.table());
        }
        if let Some(gain) = &self.gain {
            text.push_str(&self.verdict(gain));
        } else if self.control.is_none() {
            let _ = writeln!(text, "whether the teacher helped, --control tells");
        }
        let place = self.output.as_deref().unwrap_or("standard output");
        let _ = writeln!(text, "student of seed {} in {place}", self.settings.seed);
        text
    }

    fn table(&self) -> String {
        let is_classes = self.student.as_ref().is_some_and(|student| student.role.mean.accuracy.is_some());
        let percent = |value: Option<f64>, spread: Option<f64>| match (value, spread) {
            (None, _) => String::new(),
            (Some(value), None) => format!("{:.2}%", 100.0 * value),
            (Some(value), Some(spread)) => format!("{:.2} ± {:.2}%", 100.0 * value, 100.0 * spread),
        };
        let row = |name: String, mean: &Figures, spread: Option<&Figures>, cost: &Cost| {
            let mut row = vec![format!("  {name}"), grouped(cost.parameters), grouped(cost.bytes)];
            row.push(grouped(cost.multiply_adds));
            row.push(format!("{:.3}", cost.milliseconds));
            row.push(grouped(cost.samples_per_second as u64));
            if is_classes {
                row.push(percent(mean.accuracy, spread.and_then(|spread| spread.accuracy)));
            }
            row.push(format!("{:.4}", mean.loss));
            if is_classes {
                row.push(percent(mean.calibration_error, None));
                row.push(percent(mean.agreement, None));
                row.push(mean.divergence.map_or(String::new(), |kl| format!("{kl:.4}")));
            }
            row
        };
        let mut rows = Vec::new();
        if let Some(teacher) = &self.teacher {
            let sum = Cost {
                parameters: teacher.costs.iter().map(|cost| cost.parameters).sum(),
                bytes: teacher.costs.iter().map(|cost| cost.bytes).sum(),
                multiply_adds: teacher.costs.iter().map(|cost| cost.multiply_adds).sum(),
                milliseconds: teacher.costs.iter().map(|cost| cost.milliseconds).sum(),
                samples_per_second: 1.0 / teacher.costs.iter().map(|cost| 1.0 / cost.samples_per_second).sum::<f64>(),
            };
            let name = if teacher.costs.len() == 1 {
                "teacher".to_owned()
            } else {
                format!("{} teachers", teacher.costs.len())
            };
            rows.push(row(name, &teacher.figures, None, &sum));
        }
        for (name, role) in [("student", &self.student), ("control", &self.control)] {
            let Some(RoleReport { role, cost }) = role else { continue };
            let name = if role.runs.len() == 1 { name.to_owned() } else { format!("{} {name}s", role.runs.len()) };
            rows.push(row(name, &role.mean, role.deviation.as_ref(), cost));
        }
        let mut head = vec!["  network", "parameters", "bytes", "multiply-adds", "ms", "samples/s"];
        head.extend(if is_classes {
            &["accuracy", "loss", "ECE", "as teacher", "KL"][..]
        } else {
            &["squared error"][..]
        });
        columns(&head, &rows)
    }

    /// Whether it helped, in words.
    fn verdict(&self, gain: &Gain) -> String {
        let is_classes = self.student.as_ref().is_some_and(|student| student.role.mean.accuracy.is_some());
        let number =
            |value: f64| if is_classes { format!("{:.2} points", 100.0 * value) } else { format!("{value:.4}") };
        let error = gain
            .standard_error
            .map_or(" (one pair: no spread)".to_owned(), |error| format!(" (standard error {})", number(error)));
        let mut text = format!("student less control: {}{error}", number(gain.difference));
        if let Some(part) = gain.gap_closed {
            let _ = write!(text, "; {:.0}% of the gap to the teacher", 100.0 * part);
        }
        text.push('\n');
        let is_clear = gain.standard_error.is_some_and(|error| gain.difference.abs() > 2.0 * error);
        if gain.difference <= 0.0 {
            text.push_str("the teacher did not help: the same student learns as much from the labels alone\n");
        } else if !is_clear {
            text.push_str("that may be chance: it is not more than two standard errors (--seeds 3 or more)\n");
        }
        text
    }

    /// A picture of it.
    pub(super) fn svg(&self) -> String {
        let role = |name: &'static str, role: Option<&RoleReport>| {
            let runs = role?.role.runs.iter().map(|run| run.accuracy.unwrap_or(run.loss)).collect();
            let histories = self.histories.iter().filter(|history| history.role == name);
            let curves = histories.map(|history| history.epochs.clone()).collect();
            Some(DistillationRole { name, runs, curves })
        };
        let teacher = self.teacher.as_ref().map(|teacher| teacher.figures.accuracy.unwrap_or(teacher.figures.loss));
        let roles: Vec<DistillationRole> =
            [role("student", self.student.as_ref()), role("control", self.control.as_ref())]
                .into_iter()
                .flatten()
                .collect();
        let is_share = self.student.as_ref().is_some_and(|student| student.role.mean.accuracy.is_some());
        distillation_svg(teacher, &roles, is_share)
    }
}
