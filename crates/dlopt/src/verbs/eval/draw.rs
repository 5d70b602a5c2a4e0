//! Pictures of what a classifier does.

use dlopt_checkpoint::{Error, Result, write_bytes};
use dlopt_data::{Batch, Elements};
use dlopt_metrics::{
    Picture, Pixels, confusion_matrix_svg, contact_sheet_png, reliability_svg, robustness_svg, worst_mistakes,
};

use super::samples::{Said, Truth};
use super::{Job, Metrics, ModelReport};

/// Draws what is asked for.
pub(super) fn draw(
    job: &Job<'_>,
    said: &Said,
    model: &ModelReport,
    against: Option<&ModelReport>,
    truth: &Truth,
) -> Result<()> {
    let (args, dataset, first) = (job.args, job.dataset, job.samples.start);
    let wants = args.confusion.is_some() || args.reliability.is_some() || args.mistakes.is_some();
    let Metrics::Classification(report) = &model.metrics else {
        return if wants {
            Err(Error::usage("--confusion, --reliability and --mistakes need classes, and the outputs are numbers"))
        } else {
            Ok(())
        };
    };
    if let Some(path) = &args.plot {
        let models = std::iter::once(model).chain(against);
        let models: Vec<_> =
            models.filter_map(|model| Some((model.name.as_str(), model.corruption.as_ref()?))).collect();
        write_bytes(path, robustness_svg(&models).as_bytes(), args.force)?;
    }
    if let Some(path) = &args.confusion {
        write_bytes(path, confusion_matrix_svg(report).as_bytes(), args.force)?;
    }
    if let Some(path) = &args.reliability {
        write_bytes(path, reliability_svg(&report.calibration).as_bytes(), args.force)?;
    }
    let Some(path) = &args.mistakes else { return Ok(()) };
    let Elements::Image { height, width, channels } = dataset.info().elements else {
        return Err(Error::usage("--mistakes shows pictures, and the data are none"));
    };
    let worst = worst_mistakes(&said.outputs, said.run.loaded().config.outputs, &truth.labels, args.mistakes_shown)?;
    let indices: Vec<usize> = worst.iter().map(|m| first + m.sample as usize).collect();
    let mut batch = Batch::default();
    dataset.gather(&indices, &mut batch)?;
    let name = |class: u32| truth.names.get(class as usize).cloned().unwrap_or_else(|| class.to_string());
    let pictures: Vec<Picture<'_>> = worst
        .iter()
        .zip(batch.inputs.chunks_exact(height * width * channels))
        .map(|(mistake, pixels)| Picture {
            pixels: Pixels::F32(pixels),
            height,
            width,
            channels,
            label: name(mistake.label.unwrap_or_default()),
            predicted: name(mistake.predicted),
            confidence: mistake.confidence,
        })
        .collect();
    let title = format!("The {} worst mistakes of {}", pictures.len(), said.run.name);
    write_bytes(path, &contact_sheet_png(&title, &pictures)?, args.force)
}
