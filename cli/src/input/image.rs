//! A PNG into the tensor that a manifest declares: decode, resize, invert, order the channels, scale.

use crate::CliError;
use aidos_protocol::manifest::{Color, ImageInput, Invert, Layout};
use aidos_protocol::oip::Tensor;

/// A larger picture than any camera takes; a hostile PNG of a few bytes may claim more.
const MAX_PIXELS: u64 = 100_000_000;

/// An image in RGB, values 0–255.
struct Picture {
    width: usize,
    height: usize,
    /// Row-major, 3 per pixel.
    rgb: Vec<f32>,
}

/// Decodes `file` (PNG) into a FP32 tensor of `[1,C,H,W]` or `[1,H,W,C]`.
pub(super) fn tensor(file: &[u8], declared: &ImageInput) -> Result<Tensor, CliError> {
    let picture = decode(file)?.resized(declared.width as usize, declared.height as usize);
    let (pixels, channels) = (picture.width * picture.height, declared.color.channels());
    let mut planes = match declared.color {
        // ITU-R BT.601 luma, as in every grey conversion that models are trained with.
        Color::Gray => picture.rgb.chunks_exact(3).map(|p| 0.299 * p[0] + 0.587 * p[1] + 0.114 * p[2]).collect(),
        Color::Rgb => picture.channel_planes([0, 1, 2]),
        Color::Bgr => picture.channel_planes([2, 1, 0]),
    };
    if declared.invert == Invert::Always || declared.invert == Invert::Auto && light_background(&planes[..pixels], picture.width)
    {
        planes.iter_mut().for_each(|v| *v = 255.0 - *v);
    }
    for (channel, plane) in planes.chunks_exact_mut(pixels).enumerate() {
        let mean = declared.mean.get(channel).copied().unwrap_or(0.0);
        let std = declared.std.get(channel).copied().unwrap_or(1.0);
        plane.iter_mut().for_each(|v| *v = (*v * declared.scale - mean) / std);
    }
    let (height, width) = (picture.height, picture.width);
    let (shape, values) = match declared.layout {
        Layout::Nchw => (vec![1, channels, height, width], planes),
        Layout::Nhwc => {
            let interleaved =
                (0..pixels).flat_map(|i| (0..channels).map(move |c| (c, i))).map(|(c, i)| planes[c * pixels + i]).collect();
            (vec![1, height, width, channels], interleaved)
        }
    };
    Tensor::fp32(&declared.input, shape, &values).map_err(|e| CliError::Usage(e.to_string()))
}

/// Whether the outermost pixels are lighter than the middle of the scale: dark on light, such as ink on paper.
fn light_background(gray: &[f32], width: usize) -> bool {
    let rows = gray.len() / width;
    let border = gray.iter().enumerate().filter(|(i, _)| {
        let (x, y) = (i % width, i / width);
        x == 0 || y == 0 || x == width - 1 || y == rows - 1
    });
    let (sum, count) = border.fold((0.0, 0.0), |(sum, count), (_, v)| (sum + v, count + 1.0));
    sum / count > 127.5
}

fn decode(file: &[u8]) -> Result<Picture, CliError> {
    let fail = |e: &dyn std::fmt::Display| CliError::Usage(format!("the PNG cannot be read: {e}; save it as PNG again"));
    let mut decoder = png::Decoder::new(std::io::Cursor::new(file));
    decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::STRIP_16);
    let mut reader = decoder.read_info().map_err(|e| fail(&e))?;
    let (width, height) = reader.info().size();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(fail(&format!("{width}×{height} pixels, at most {MAX_PIXELS} are taken")));
    }
    let size = reader.output_buffer_size().ok_or_else(|| fail(&"its size overflows"))?;
    let mut buffer = vec![0; size];
    let frame = reader.next_frame(&mut buffer).map_err(|e| fail(&e))?;
    let samples = frame.color_type.samples();
    let rgb = buffer[..frame.buffer_size()]
        .chunks_exact(samples)
        .flat_map(|p| {
            let (r, g, b, alpha) = match *p {
                [y] => (y, y, y, 255),
                [y, a] => (y, y, y, a),
                [r, g, b] => (r, g, b, 255),
                [r, g, b, a] => (r, g, b, a),
                _ => (0, 0, 0, 255),
            };
            // What is transparent shows white paper.
            [r, g, b].map(|v| 255.0 + (f32::from(v) - 255.0) * f32::from(alpha) / 255.0)
        })
        .collect();
    Ok(Picture { width: width as usize, height: height as usize, rgb })
}

impl Picture {
    fn channel_planes(&self, order: [usize; 3]) -> Vec<f32> {
        order.into_iter().flat_map(|c| self.rgb.iter().skip(c).step_by(3).copied()).collect()
    }

    /// Bilinear with the footprint widened when shrinking (a triangle filter), so that thin strokes survive.
    fn resized(self, width: usize, height: usize) -> Self {
        if (self.width, self.height) == (width, height) {
            return self;
        }
        let columns = weights(self.width, width);
        let rows = weights(self.height, height);
        let mut narrow = vec![0.0; width * self.height * 3];
        for y in 0..self.height {
            for (x, (first, taps)) in columns.iter().enumerate() {
                for (tap, weight) in taps.iter().enumerate() {
                    for c in 0..3 {
                        narrow[(y * width + x) * 3 + c] += self.rgb[(y * self.width + first + tap) * 3 + c] * weight;
                    }
                }
            }
        }
        let mut rgb = vec![0.0; width * height * 3];
        for (y, (first, taps)) in rows.iter().enumerate() {
            for (tap, weight) in taps.iter().enumerate() {
                for i in 0..width * 3 {
                    rgb[y * width * 3 + i] += narrow[(first + tap) * width * 3 + i] * weight;
                }
            }
        }
        Self { width, height, rgb }
    }
}

/// For each output position the first input position and the weights from there on; they sum to 1.
fn weights(from: usize, to: usize) -> Vec<(usize, Vec<f32>)> {
    let scale = from as f32 / to as f32;
    let radius = scale.max(1.0);
    (0..to)
        .map(|i| {
            let centre = (i as f32 + 0.5) * scale;
            let first = (centre - radius).floor().max(0.0) as usize;
            let last = ((centre + radius).ceil() as usize).min(from);
            let raw: Vec<f32> = (first..last).map(|j| (1.0 - ((j as f32 + 0.5 - centre) / radius).abs()).max(0.0)).collect();
            let sum: f32 = raw.iter().sum();
            (first, raw.into_iter().map(|w| w / sum).collect())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(width: u32, height: u32, gray: &[u8]) -> Vec<u8> {
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, width, height);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.write_header().unwrap().write_image_data(gray).unwrap();
        file
    }

    fn declared(invert: Invert) -> ImageInput {
        let (width, height) = (3, 3);
        ImageInput {
            input: "x".into(),
            width,
            height,
            color: Color::Gray,
            layout: Layout::Nchw,
            scale: 1.0 / 255.0,
            mean: vec![],
            std: vec![],
            invert,
        }
    }

    fn values(tensor: &Tensor) -> Vec<f64> {
        tensor.to_f64().unwrap().into_iter().map(|v| (v * 100.0).round() / 100.0).collect()
    }

    #[test]
    fn ink_on_paper_is_inverted_and_chalk_on_a_board_is_not() {
        let ink = png(3, 3, &[255, 255, 255, 255, 0, 255, 255, 255, 255]);
        let chalk = png(3, 3, &[0, 0, 0, 0, 255, 0, 0, 0, 0]);
        let expected = vec![0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(values(&tensor(&ink, &declared(Invert::Auto)).unwrap()), expected);
        assert_eq!(values(&tensor(&chalk, &declared(Invert::Auto)).unwrap()), expected);
    }

    #[test]
    fn resizing_keeps_a_flat_picture_flat() {
        let flat = png(7, 5, &[100; 35]);
        assert!(values(&tensor(&flat, &declared(Invert::Never)).unwrap()).iter().all(|&v| v == 0.39));
    }

    #[test]
    fn a_broken_png_is_a_usage_error() {
        assert!(matches!(tensor(b"\x89PNG\r\n\x1a\nnope", &declared(Invert::Never)), Err(CliError::Usage(_))));
    }
}
