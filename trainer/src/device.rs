//! Where the network is trained, chosen at run time.

use burn::tensor::Device;
use thiserror::Error;

use crate::ppo::runner::is_cpu;

/// What the user asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A real GPU if this program can use one and there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU. Training is reproducible bit for bit only here.
    Cpu,
    /// A GPU, or a software Vulkan driver that stands in for one.
    Gpu,
}

/// Why a device cannot be had.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// The program was built without GPU support.
    #[error("this program was built without GPU support; build it with `--features gpu`, or use `--device cpu`")]
    NotBuilt,
    /// No adapter answered.
    #[error(
        "no GPU was found ({0}); install a Vulkan driver (mesa-vulkan-drivers has one in software), or use `--device cpu`"
    )]
    NotFound(String),
    /// A name that is no device.
    #[error("unknown device {0:?}; use auto, cpu or gpu")]
    Unknown(String),
}

impl std::str::FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "gpu" => Ok(Self::Gpu),
            other => Err(DeviceError::Unknown(other.to_owned())),
        }
    }
}

/// The device for a choice.
///
/// # Errors
/// If a GPU is asked for and this program cannot use one or there is none.
pub fn select(choice: DeviceChoice) -> Result<Device, DeviceError> {
    match choice {
        DeviceChoice::Cpu => Ok(Device::flex()),
        DeviceChoice::Gpu => gpu(),
        DeviceChoice::Auto => Ok(real_gpu().unwrap_or_else(Device::flex)),
    }
}

/// What a device is called, for people.
pub fn described(device: &Device) -> String {
    if is_cpu(device) { "the CPU".to_owned() } else { format!("the GPU: {}", gpu_name(device)) }
}

#[cfg(not(feature = "gpu"))]
fn gpu() -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuilt)
}

#[cfg(not(feature = "gpu"))]
fn real_gpu() -> Option<Device> {
    None
}

#[cfg(not(feature = "gpu"))]
fn gpu_name(device: &Device) -> String {
    format!("{device:?}")
}

#[cfg(feature = "gpu")]
mod with_gpu {
    use std::sync::Mutex;

    use burn::tensor::{Device, DeviceKind};

    use super::DeviceError;

    /// Real GPUs, the fastest kind first.
    const REAL: [DeviceKind; 3] = [DeviceKind::DiscreteGpu(0), DeviceKind::IntegratedGpu(0), DeviceKind::VirtualGpu(0)];

    pub fn real_gpu() -> Option<Device> {
        REAL.into_iter().find_map(|kind| open(kind).ok())
    }

    pub fn gpu() -> Result<Device, DeviceError> {
        real_gpu().map_or_else(|| open(DeviceKind::Cpu).map_err(DeviceError::NotFound), Ok)
    }

    /// What was opened, with its kind and its name: a kind can be opened once in a program.
    static OPENED: Mutex<Vec<(DeviceKind, Device, String)>> = Mutex::new(Vec::new());

    fn open(kind: DeviceKind) -> Result<Device, String> {
        let mut opened = OPENED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some((_, device, _)) = opened.iter().find(|(other, ..)| *other == kind) {
            return Ok(device.clone());
        }
        let options = Device::wgpu_options().device_kind(kind.clone());
        let (device, setup) = options.init_with_setup().map_err(|e| e.to_string())?;
        let info = setup.adapter.get_info();
        opened.push((kind, device.clone(), format!("{} ({})", info.name, info.backend)));
        Ok(device)
    }

    pub fn gpu_name(device: &Device) -> String {
        let opened = OPENED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let known = opened.iter().find(|(_, other, _)| other == device);
        known.map_or_else(|| format!("{device:?}"), |(.., name)| name.clone())
    }
}
#[cfg(feature = "gpu")]
use with_gpu::{gpu, gpu_name, real_gpu};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_the_command_line() {
        assert_eq!("gpu".parse::<DeviceChoice>().unwrap(), DeviceChoice::Gpu);
        assert_eq!(
            "tpu".parse::<DeviceChoice>().unwrap_err().to_string(),
            "unknown device \"tpu\"; use auto, cpu or gpu"
        );
    }

    #[cfg(not(feature = "gpu"))]
    #[test]
    fn a_gpu_without_gpu_support_names_the_mend() {
        let error = select(DeviceChoice::Gpu).unwrap_err().to_string();
        assert!(error.contains("--features gpu"), "{error}");
        assert_eq!(described(&select(DeviceChoice::Auto).unwrap()), "the CPU");
    }
}
