//! Small pictures of samples: of those that something was found about, and of what a dataset holds.

use crate::clean::Finding;
use crate::raw::{Image, Raw, Values};

/// Longest side of a thumbnail.
const SIDE: usize = 64;

/// A small picture and what is written under it.
#[derive(Clone, Debug)]
pub struct Thumbnail {
    /// At most 64 pixels each way.
    pub image: Image,
    /// Under it: its name, or what was found.
    pub caption: String,
    /// A second line: its class, or what was done.
    pub note: String,
}

/// Thumbnails of samples that something was found about.
#[derive(Debug, Default)]
pub(super) struct Thumbnails {
    pub(super) rejected: Vec<Thumbnail>,
    most: usize,
}

impl Thumbnails {
    pub(super) fn new(most: usize) -> Self {
        Self { rejected: Vec::new(), most }
    }

    pub(super) fn reject(&mut self, image: &Image, finding: &Finding) {
        if self.rejected.len() < self.most {
            let name = finding.sample.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
            let note = format!("{}: {:?}", finding.problem.name(), finding.action).to_lowercase();
            self.rejected.push(Thumbnail { image: image.clone(), caption: name, note });
        }
    }
}

/// A small copy of a picture: every so many pixels.
pub(super) fn small(raw: &Raw) -> Option<Image> {
    let Raw::Image(Image { height, width, channels, pixels }) = raw else { return None };
    let stride = height.max(width).div_ceil(SIDE).max(1);
    let (rows, columns) = (height.div_ceil(stride), width.div_ceil(stride));
    let places = (0..rows)
        .flat_map(|y| (0..columns).map(move |x| (y * stride, x * stride)))
        .flat_map(|(y, x)| (0..*channels).map(move |c| (y * width + x) * channels + c));
    let pixels = match pixels {
        Values::U8(pixels) => Values::U8(places.map(|at| pixels[at]).collect()),
        Values::F32(pixels) => Values::F32(places.map(|at| pixels[at]).collect()),
    };
    Some(Image { height: rows, width: columns, channels: *channels, pixels })
}
