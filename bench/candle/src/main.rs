//! candle's CLIP ViT-B/32, one tower, timed: prints one JSON line with the keys that `clipc bench` prints.
//!
//!     candle-peer model.safetensors image|text BATCH TOKENS SECONDS
//!
//! f32; RAYON_NUM_THREADS sets the threads. Inputs are made up here: candle is compared by time alone.
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::clip::{div_l2_norm, ClipConfig, ClipModel};
use std::time::Instant;

fn ms(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    anyhow::ensure!(arguments.len() == 6, "usage: candle-peer model.safetensors image|text BATCH TOKENS SECONDS");
    let image = arguments[2] == "image";
    let (batch, tokens): (usize, usize) = (arguments[3].parse()?, arguments[4].parse()?);
    let seconds: f64 = arguments[5].parse()?;
    let pixels = Tensor::randn(0f32, 1., (batch, 3, 224, 224), &Device::Cpu)?;
    let mut ids = vec![49407u32; batch * tokens];
    for text in ids.chunks_mut(tokens) {
        text[0] = 49406;
        for (i, id) in text[1..tokens - 1].iter_mut().enumerate() {
            *id = 320 + i as u32;
        }
    }
    let ids = Tensor::from_vec(ids, (batch, tokens), &Device::Cpu)?;

    let start = Instant::now();
    // SAFETY: the file is the benchmark's own and nobody changes it while it is mapped.
    let weights = unsafe { VarBuilder::from_mmaped_safetensors(&[&arguments[1]], DType::F32, &Device::Cpu)? };
    let model = ClipModel::new(weights, &ClipConfig::vit_base_patch32())?;
    let open_ms = ms(start);
    let run = || -> anyhow::Result<f32> {
        let features = if image { model.get_image_features(&pixels)? } else { model.get_text_features(&ids)? };
        Ok(div_l2_norm(&features)?.sum_all()?.to_scalar::<f32>()?)
    };
    run()?;
    let first_ms = ms(start);
    run()?;

    let mut times = vec![];
    let begin = Instant::now();
    while times.len() < 7 || begin.elapsed().as_secs_f64() < seconds {
        let start = Instant::now();
        run()?;
        times.push(ms(start) / batch as f64);
    }
    let rate = 1e3 * times.len() as f64 / times.iter().sum::<f64>();
    times.sort_by(f64::total_cmp);
    println!(
        "{{\"engine\": \"candle\", \"version\": \"0.11.1\", \"ran_as\": \"f32\", \"open_ms\": {open_ms:.2}, \
         \"first_ms\": {first_ms:.2}, \"ms_per_item_min\": {:.4}, \"ms_per_item_median\": {:.4}, \
         \"ms_per_item_p95\": {:.4}, \"items_per_second\": {rate:.3}, \"runs\": {}}}",
        times[0],
        times[times.len() / 2],
        times[(times.len() * 95 / 100).min(times.len() - 1)],
        times.len()
    );
    Ok(())
}
