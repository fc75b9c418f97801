//! Packs an image, or writes a packed one to a file or device and reads it back, with times:
//!
//!     write-image pack IMAGE PACKED LEVEL          (the manifest goes to PACKED.json)
//!     write-image write PACKED TARGET THREADS      (O_DIRECT; overlapped read-back)
//!     write-image decode PACKED THREADS            (hash and decode to nowhere)

use std::error::Error;
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Instant;
use tatara_disk::stream::{FileTarget, Options, ReadBack, Target, pack, write_image};
use tatara_spec::release::Image;

/// Bytes that a frame unpacks to.
const FRAME_BYTES: u64 = 4 << 20;

/// Takes everything, keeps nothing.
struct Nowhere;

impl Target for Nowhere {
    fn write_at(&self, _: u64, data: &[u8]) -> io::Result<usize> {
        Ok(data.len())
    }
    fn zero_range(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn read_at(&self, _: u64, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let start = Instant::now();
    match arguments[..] {
        ["pack", image, packed, level] => {
            let threads = Options::default().threads;
            let (mut from, mut to) = (File::open(image)?, File::create(packed)?);
            let image = pack(&mut from, &mut to, FRAME_BYTES, level.parse()?, threads, &|_| ())?;
            std::fs::write(format!("{packed}.json"), serde_json::to_vec(&image)?)?;
        }
        ["write", packed, target, threads] => {
            let image = manifest(packed)?;
            let mut open = File::options();
            let file = open
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .custom_flags(libc::O_DIRECT)
                .open(target)?;
            let target = FileTarget::sparse(file, image.bytes)?;
            write(&image, packed, &target, threads, ReadBack::Overlapped)?;
        }
        ["decode", packed, threads] => {
            write(&manifest(packed)?, packed, &Nowhere, threads, ReadBack::ByCaller)?;
        }
        _ => return Err("usage: write-image pack|write|decode …".into()),
    }
    println!("{:.3} s", start.elapsed().as_secs_f64());
    Ok(())
}

fn manifest(packed: &str) -> Result<Image, Box<dyn Error>> {
    Ok(serde_json::from_slice(&std::fs::read(format!("{packed}.json"))?)?)
}

fn write(
    image: &Image,
    packed: &str,
    target: &dyn Target,
    threads: &str,
    read_back: ReadBack,
) -> Result<(), Box<dyn Error>> {
    let options = Options { threads: threads.parse()?, read_back };
    let stats = write_image(image, &mut File::open(packed)?, target, options, &|_| ())?;
    println!("{stats:?}");
    Ok(())
}
