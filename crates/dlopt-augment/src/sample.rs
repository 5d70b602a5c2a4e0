//! A sample while it is changed, and the room that operations work in.

use dlopt_data::Elements;
use dlopt_kernels::pixels::Room;

/// What a sample is; extents outermost first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Form {
    /// A picture, `[height, width, channels]`.
    Image {
        /// Rows of pixels.
        height: usize,
        /// Pixels in a row.
        width: usize,
        /// Numbers of a pixel.
        channels: usize,
        /// The number that is white: 255 for bytes; black is 0.
        white: f32,
    },
    /// A series or a spectrum, `[time, features]`.
    Series {
        /// Steps that there is room for.
        time: usize,
        /// Numbers of a step.
        features: usize,
    },
    /// Token numbers, `[time]`.
    Tokens {
        /// Tokens that there is room for.
        time: usize,
        /// Tokens are below this.
        vocabulary: usize,
    },
    /// A row of a table, `[features]`.
    Row {
        /// Numbers of the row.
        features: usize,
    },
}

impl Form {
    /// The form of the samples of a dataset, whose elements times `scale` are what a network takes.
    pub fn of(elements: &Elements, is_bytes: bool, scale: f32) -> Self {
        match *elements {
            Elements::Image { height, width, channels } => {
                let white = if is_bytes { 255.0 } else { 1.0 / scale };
                Self::Image { height, width, channels, white }
            }
            Elements::Series { time, features } => Self::Series { time, features },
            Elements::Tokens { time, vocabulary } => Self::Tokens { time, vocabulary },
            Elements::Vector { features, .. } => Self::Row { features },
        }
    }

    /// In words, such as `pictures of 28x28x1`.
    pub fn in_words(&self) -> String {
        match self {
            Self::Image { height, width, channels, .. } => format!("pictures of {height}x{width}x{channels}"),
            Self::Series { time, features } => format!("series of up to {time} steps with {features} features"),
            Self::Tokens { time, vocabulary } => format!("up to {time} tokens of {vocabulary}"),
            Self::Row { features } => format!("rows of {features} features"),
        }
    }
}

/// The elements of a sample.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Bytes.
    U8(Vec<u8>),
    /// Floats.
    F32(Vec<f32>),
    /// Token numbers.
    Tokens(Vec<u32>),
}

/// A sample that is changed in place.
///
/// An operation keeps the extents of its form. Of series and tokens it may change how many steps count; what lies behind
/// them is made 0 afterwards.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// What it is.
    pub form: Form,
    /// Its elements, as many as the form has.
    pub data: Data,
    /// Steps of a series, or tokens, that count: at least 1, at most `time`. 1 for pictures and rows.
    pub steps: usize,
}

/// Room that operations use again for every sample; none of it means anything between two operations.
#[derive(Debug, Default)]
pub struct Scratch {
    /// For bytes.
    pub bytes: Vec<u8>,
    /// For floats.
    pub floats: Vec<f32>,
    /// For more floats.
    pub more_floats: Vec<f32>,
    /// For tokens, places, counts.
    pub numbers: Vec<u32>,
    /// Where pixels come from: all x and then all y.
    pub(crate) places: Vec<f64>,
    /// Of pictures that are resampled.
    pub(crate) warped_bytes: Room<u8>,
    pub(crate) warped_floats: Room<f32>,
    /// What was drawn, for people, when somebody asked for it.
    pub notes: Option<String>,
}

impl Scratch {
    /// Says what was drawn, such as `rotate -7.3`, to whoever wants to know.
    pub fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(notes) = &mut self.notes {
            if !notes.is_empty() {
                notes.push_str(", ");
            }
            notes.push_str(&text());
        }
    }
}

/// A kind of element: bytes or floats.
pub(crate) trait Element: Copy + Default + PartialEq + Send + Sync + 'static {
    /// The nearest element; bytes end at 0 and 255.
    fn of(value: f32) -> Self;
}

impl Element for u8 {
    fn of(value: f32) -> Self {
        // The cast saturates, and NaN becomes 0.
        (value + 0.5) as u8
    }
}

impl Element for f32 {
    fn of(value: f32) -> Self {
        value
    }
}
