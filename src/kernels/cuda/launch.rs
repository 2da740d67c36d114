//! Finds compiled kernels and launches them.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::sys::CUfunction_attribute_enum;
use candle_core::cuda_backend::cudarc::driver::{CudaFunction, CudaModule, DeviceRepr, LaunchConfig};
use candle_core::cuda_backend::cudarc::nvrtc::Ptx;
use candle_core::{CudaDevice, Result, bail};

mod compiled {
    include!(concat!(env!("OUT_DIR"), "/modules.rs"));
}
use compiled::MODULES;

/// The compute capability that this build's kernels were compiled for: 90 for 9.0.
pub(crate) const CAPABILITY: u32 = compiled::CAPABILITY;

/// Shared memory that a block has without asking for more, in bytes.
const SHARED_BYTES_DEFAULT: usize = 48 << 10;
/// Blocks along the second and third side of a grid, at most.
const GRID_SIDE_MAX: usize = 65_535;

/// How many threads run a kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    pub(super) blocks: [usize; 3],
    pub(super) threads: usize,
    pub(super) shared_bytes: usize,
}

impl Grid {
    pub(super) fn new(blocks: [usize; 3], threads: usize) -> Self {
        Self { blocks, threads, shared_bytes: 0 }
    }

    /// A block per row, and along the row one thread per `per_thread` elements.
    pub(super) fn rows(rows: usize, width: usize, per_thread: usize) -> Self {
        const THREADS: usize = 256;
        let threads = width.div_ceil(per_thread);
        Self::new([rows, threads.div_ceil(THREADS), 1], threads.clamp(32, THREADS).next_multiple_of(32))
    }
}

/// What a kernel is given: one struct, laid out as its twin in the `.cu` file, which asserts its size.
///
/// # Safety
/// The type is `repr(C)` and has the fields of the struct that the kernel named with it takes; every address in it
/// reaches as far as the kernel reads or writes.
pub(super) unsafe trait Arguments: Copy {}

#[derive(Clone, Copy)]
#[repr(transparent)]
struct ByValue<A>(A);

// SAFETY: a `repr(C)` struct of numbers and addresses, passed by value; see `Arguments`.
unsafe impl<A: Arguments> DeviceRepr for ByValue<A> {}

/// Launches `name` of `kernels/{module}.cu` on the device's stream; a grid without blocks is no launch.
///
/// # Errors
/// When the kernel cannot be loaded, the grid is larger than a device takes, or an earlier launch failed.
pub(super) fn launch<A: Arguments>(
    device: &CudaDevice,
    module: &str,
    name: &str,
    grid: Grid,
    arguments: A,
) -> Result<()> {
    let [x, y, z] = grid.blocks;
    if x == 0 || y == 0 || z == 0 {
        return Ok(());
    }
    if x > i32::MAX as usize || y > GRID_SIDE_MAX || z > GRID_SIDE_MAX {
        bail!("{name}: a grid of {x} x {y} x {z} blocks is larger than a device takes")
    }
    let function = function(device, module, name, grid.shared_bytes)?;
    let config = LaunchConfig {
        grid_dim: (x as u32, y as u32, z as u32),
        block_dim: (grid.threads as u32, 1, 1),
        shared_mem_bytes: grid.shared_bytes as u32,
    };
    let stream = device.cuda_stream();
    let arguments = ByValue(arguments);
    let mut builder = stream.launch_builder(&function);
    candle_core::cuda_backend::cudarc::driver::PushKernelArg::arg(&mut builder, &arguments);
    // SAFETY: `Arguments` says that the struct is what the kernel takes and that its addresses reach far enough.
    unsafe { builder.launch(config) }.w()?;
    Ok(())
}

/// The modules of a device, and its functions as they are asked for.
#[derive(Default)]
struct Loaded {
    modules: HashMap<&'static str, Arc<CudaModule>>,
    functions: HashMap<String, CudaFunction>,
}

/// By ordinal: a process has one context per device.
static LOADED: LazyLock<RwLock<HashMap<usize, Loaded>>> = LazyLock::new(RwLock::default);

fn function(device: &CudaDevice, module: &str, name: &str, shared_bytes: usize) -> Result<CudaFunction> {
    let context = Arc::clone(device.cuda_stream().context());
    let ordinal = context.ordinal();
    // A panic elsewhere cannot have left the map half changed.
    let loaded = LOADED.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(function) = loaded.get(&ordinal).and_then(|loaded| loaded.functions.get(name)) {
        return Ok(function.clone());
    }
    drop(loaded);
    let Some(&(key, cubin)) = MODULES.iter().find(|(other, _)| *other == module) else {
        bail!("{name}: this build has no kernels/{module}.cu")
    };
    let mut loaded = LOADED.write().unwrap_or_else(PoisonError::into_inner);
    let loaded = loaded.entry(ordinal).or_default();
    let module = match loaded.modules.get(key) {
        Some(module) => Arc::clone(module),
        None => {
            let module = context.load_module(Ptx::from_binary(cubin.to_vec())).w()?;
            loaded.modules.insert(key, Arc::clone(&module));
            module
        }
    };
    let function = module.load_function(name).w()?;
    if shared_bytes > SHARED_BYTES_DEFAULT {
        let attribute = CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        function.set_attribute(attribute, shared_bytes as i32).w()?;
    }
    loaded.functions.insert(name.to_owned(), function.clone());
    Ok(function)
}

/// True where this process can reach NVIDIA's driver library. Without it every other call would panic.
pub(crate) fn is_present() -> bool {
    // SAFETY: it only tries to open the library.
    #[cfg(cudarc_dynload)]
    return unsafe { candle_core::cuda_backend::cudarc::driver::sys::is_culib_present() };
    // A binary that is linked to the library does not start without it.
    #[cfg(not(cudarc_dynload))]
    true
}
