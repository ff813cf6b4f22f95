//! How good training is, over seeds: `cargo bench -p twinscaler --bench quality -- [SEEDS] [CONFIG.toml …]`.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use burn::tensor::Device;
use twinscaler::compare::policy_usd;
use twinscaler::course::{Course, published_twin};
use twinscaler::learn::learn;
use twinscaler::ppo::{PpoConfig, Start};

fn main() {
    let mut args = std::env::args().skip(1).filter(|a| !a.starts_with("--"));
    let seeds: u64 = args.next().map_or(3, |n| n.parse().expect("a number of seeds"));
    let configs: Vec<String> = args.collect();
    let exact = Arc::new(published_twin());
    let perturbed = Arc::new(published_twin().perturbed(twinscaler::load::PERTURBATION));
    let on_exact = [Course::new("exact", exact.clone(), exact.clone())];
    let on_perturbed = [Course::new("perturbed", perturbed, exact.clone())];
    let held_out: Vec<u64> = (9_000_000..9_000_064).collect();
    let by_order = |usd: &[f64]| -> [f64; 2] {
        std::array::from_fn(|k| usd.iter().skip(k).step_by(2).sum::<f64>() / (usd.len() / 2) as f64)
    };
    let teacher = &on_exact[0].teacher;
    let of_rule = backtest::play::outcomes(&teacher.rule, &exact, &held_out).unwrap();
    println!("{}: {:?}", teacher.rule, by_order(&of_rule.iter().map(|o| o.total_usd).collect::<Vec<_>>()));
    for name in configs {
        let text = std::fs::read_to_string(&name).unwrap();
        let config = PpoConfig::from_toml(&text).unwrap();
        let courses = if text.contains("# perturbed") { &on_perturbed } else { &on_exact };
        let mut all = vec![];
        let start = Instant::now();
        for seed in 1..=seeds {
            let trained =
                learn(courses, Start::Fresh, &config, seed, &Device::flex(), &mut |_, _| ControlFlow::Continue(()))
                    .unwrap();
            let usd = by_order(&policy_usd(&trained.best, &exact, &held_out));
            let last = by_order(&policy_usd(&trained.last, &exact, &held_out));
            let curve: Vec<String> =
                trained.curve.iter().filter_map(|p| p.evaluation).map(|e| format!("{:.2}", -e)).collect();
            if std::env::var("CURVE").is_ok() {
                for p in &trained.curve {
                    println!(
                        "   {:7} sampled {:?} argmax {:?} {:?}",
                        p.steps, p.episode_reward, p.evaluation, p.losses
                    );
                }
            }
            println!(
                "{name} seed {seed}: {:.3} {:.3}  last {:.3} {:.3}  {}",
                usd[0],
                usd[1],
                last[0],
                last[1],
                curve.join(" ")
            );
            all.push(usd);
        }
        let mean = |k: usize| all.iter().map(|u| u[k]).sum::<f64>() / all.len() as f64;
        println!(
            "{name}: mean {:.3} {:.3}, {:.1} s each",
            mean(0),
            mean(1),
            start.elapsed().as_secs_f64() / seeds as f64
        );
    }
}
