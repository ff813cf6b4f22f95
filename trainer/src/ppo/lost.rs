//! A GPU that is gone in the middle of the training: its driver was reset, or it fell off the bus.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use burn::tensor::{Device, Tensor};

use super::TrainError;
use super::runner::is_cpu;

/// Does what computes on a device. burn and its runtime panic wherever they meet a GPU that is gone, which is no defect of the
/// program: it becomes an error. All other panics go on.
pub fn unless_lost<T>(device: &Device, work: impl FnOnce() -> Result<T, TrainError>) -> Result<T, TrainError> {
    // nothing of what was interrupted is used again
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        if is_cpu(device) || answers(device) {
            resume_unwind(panic);
        }
        Err(TrainError::DeviceLost(words(panic.as_ref())))
    })
}

/// Whether a device still gives numbers back.
fn answers(device: &Device) -> bool {
    let asked = || Tensor::<1>::from_floats([1.0], device).try_into_vec_as::<f32>().is_ok();
    catch_unwind(AssertUnwindSafe(asked)).unwrap_or(false)
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no reason was given".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "a defect of the program")]
    fn a_panic_on_the_cpu_goes_on() {
        let _ = unless_lost::<()>(&Device::flex(), || panic!("a defect of the program"));
    }

    #[test]
    fn a_device_that_is_there_answers() {
        assert!(answers(&Device::flex()));
    }

    #[test]
    fn the_words_of_a_panic_are_kept() {
        let of = |work: fn()| words(catch_unwind(work).unwrap_err().as_ref());
        assert_eq!(of(|| panic!("device lost")), "device lost");
        assert_eq!(of(|| panic!("{} lost", 1)), "1 lost");
        assert_eq!(of(|| std::panic::panic_any(7)), "no reason was given");
    }
}
