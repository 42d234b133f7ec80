//! A model's manifest: what travels beside the weights so that people can give it a picture and read its answer.

use serde::{Deserialize, Serialize};

/// What a publisher declares about a model. Written as TOML beside the file, kept as JSON in the registry and on devices.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The model's name, where the file itself proposes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// One line for lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// SPDX expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// Class names of the last dimension of the first output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Set where one input is an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageInput>,
}

/// How an image becomes the tensor of one input: resize, convert, then `(pixel * scale - mean) / std` per channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageInput {
    /// The input's name in the graph.
    pub input: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Channel order.
    pub color: Color,
    /// Order of the dimensions.
    #[serde(default)]
    pub layout: Layout,
    /// Factor on the 0–255 pixel value.
    #[serde(default = "one")]
    pub scale: f32,
    /// One per channel, or empty for zeros.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mean: Vec<f32>,
    /// One per channel, or empty for ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub std: Vec<f32>,
    /// Whether to swap dark and light first.
    #[serde(default)]
    pub invert: Invert,
}

fn one() -> f32 {
    1.0
}

/// Channels of an image input and their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Color {
    /// One channel of luma.
    Gray,
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
}

impl Color {
    /// 1 or 3.
    pub fn channels(self) -> usize {
        match self {
            Color::Gray => 1,
            Color::Rgb | Color::Bgr => 3,
        }
    }
}

/// Order of an image tensor's four dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub enum Layout {
    /// Batch, channel, height, width.
    #[default]
    #[serde(rename = "NCHW")]
    Nchw,
    /// Batch, height, width, channel.
    #[serde(rename = "NHWC")]
    Nhwc,
}

/// Whether dark and light are swapped before scaling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Invert {
    /// As it is.
    #[default]
    Never,
    /// Always.
    Always,
    /// When the border is lighter than the whole: a dark drawing on light paper, for a model that learnt light on dark.
    Auto,
}

/// A manifest that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not TOML, or not this shape.
    #[error("the manifest is not valid: {0}")]
    Toml(#[from] toml::de::Error),
    /// A value out of its range.
    #[error("the manifest is not valid: {0}")]
    Value(String),
}

impl Manifest {
    /// The most labels a manifest may list; ImageNet-22k fits.
    pub const MAX_LABELS: usize = 32_768;
    /// The widest or highest image a manifest may ask for, in pixels.
    pub const MAX_SIDE: u32 = 8_192;

    /// Reads a `model.toml`.
    pub fn from_toml(text: &str) -> Result<Self, ManifestError> {
        let manifest: Self = toml::from_str(text)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Checks the ranges; call it on every manifest that came from outside.
    pub fn check(&self) -> Result<(), ManifestError> {
        let fail = |text: String| Err(ManifestError::Value(text));
        if self.labels.len() > Self::MAX_LABELS {
            return fail(format!("{} labels, at most {} are kept", self.labels.len(), Self::MAX_LABELS));
        }
        let Some(image) = &self.image else { return Ok(()) };
        let side = 1..=Self::MAX_SIDE;
        if !side.contains(&image.width) || !side.contains(&image.height) {
            return fail(format!("image is {}×{}, each side must be 1 to {}", image.width, image.height, Self::MAX_SIDE));
        }
        let channels = image.color.channels();
        for (name, list) in [("mean", &image.mean), ("std", &image.std)] {
            if !list.is_empty() && list.len() != channels {
                return fail(format!("image.{name} has {} values, one per channel is {channels}", list.len()));
            }
        }
        if image.std.contains(&0.0) || !image.scale.is_finite() {
            return fail("image.std must not hold 0 and image.scale must be finite".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_manifest_reads_with_its_defaults() {
        let text = "labels = ['a', 'b']\n[image]\ninput = 'x'\nwidth = 8\nheight = 8\ncolor = 'gray'\n";
        let manifest = Manifest::from_toml(text).unwrap();
        let image = manifest.image.unwrap();
        assert_eq!((image.layout, image.invert, image.scale), (Layout::Nchw, Invert::Never, 1.0));
    }

    #[test]
    fn a_misspelt_field_and_a_wrong_channel_count_are_named() {
        assert!(Manifest::from_toml("lables = []").unwrap_err().to_string().contains("lables"));
        let text = "[image]\ninput = 'x'\nwidth = 8\nheight = 8\ncolor = 'rgb'\nmean = [0.5]\n";
        assert!(Manifest::from_toml(text).unwrap_err().to_string().contains("one per channel is 3"));
    }
}
