//! The kernel's clock discipline, as adjtimex(2) tells it: how far the clock may be off, and whether it is synchronized.

use std::io;

use super::Roots;
use crate::metrics::Gathered;

/// The clock is not synchronized.
const TIME_ERROR: i32 = 5;
/// Offset and jitter are in nanoseconds, not microseconds.
const STA_NANO: i32 = 0x2000;
const MICROS_PER_SECOND: f64 = 1e6;
const NANOS_PER_SECOND: f64 = 1e9;
/// Frequencies are parts per million with a 16-bit fraction.
const PPM_16: f64 = 1e6 * 65_536.0;

pub fn timex(_: &Roots, out: &mut Gathered) -> io::Result<()> {
    let (state, now) = read()?;
    let per_second = if now.status & STA_NANO == 0 { MICROS_PER_SECOND } else { NANOS_PER_SECOND };
    let values = [
        ("node_timex_offset_seconds", now.offset as f64 / per_second),
        ("node_timex_frequency_adjustment_ratio", 1.0 + now.freq as f64 / PPM_16),
        ("node_timex_maxerror_seconds", now.maxerror as f64 / MICROS_PER_SECOND),
        ("node_timex_estimated_error_seconds", now.esterror as f64 / MICROS_PER_SECOND),
        ("node_timex_status", f64::from(now.status)),
        ("node_timex_loop_time_constant", now.constant as f64),
        ("node_timex_tick_seconds", now.tick as f64 / MICROS_PER_SECOND),
        ("node_timex_pps_frequency_hertz", now.ppsfreq as f64 / PPM_16),
        ("node_timex_pps_jitter_seconds", now.jitter as f64 / per_second),
        ("node_timex_pps_shift_seconds", f64::from(now.shift)),
        ("node_timex_pps_stability_hertz", now.stabil as f64 / PPM_16),
        ("node_timex_pps_jitter_total", now.jitcnt as f64),
        ("node_timex_pps_calibration_total", now.calcnt as f64),
        ("node_timex_pps_error_total", now.errcnt as f64),
        ("node_timex_pps_stability_exceeded_total", now.stbcnt as f64),
        ("node_timex_tai_offset_seconds", f64::from(now.tai)),
        ("node_timex_sync_status", f64::from(u8::from(state != TIME_ERROR))),
    ];
    values.into_iter().for_each(|(name, value)| out.add(name, &[], value));
    Ok(())
}

/// The clock's state and its parameters; nothing is set.
#[expect(unsafe_code, reason = "no safe crate makes this call, and alerts on clocks need what it tells")]
fn read() -> io::Result<(i32, libc::timex)> {
    // SAFETY: `timex` is a structure of integers, for which all zeros are a value.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a whole `timex` that lives through the call; `modes` is 0, so the kernel only writes into it.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    if state < 0 { Err(io::Error::last_os_error()) } else { Ok((state, timex)) }
}
