//! `umem/show`: where the memory of AF_XDP ports is.

use super::Context;
use datapath::control::UmemStats;
use datapath::packet::CHUNK;

/// A line for each region. What is neither free nor the kernel's is spare with a worker, or a frame on its way.
pub(super) fn show(cx: &mut Context<'_>, _: &[&str]) -> Result<String, String> {
    let regions = cx.view.datapath.umem();
    if regions.is_empty() {
        return Ok(
            "no AF_XDP port has been attached (those of xdp-backend=afxdp have memory of their own)\n".to_owned()
        );
    }
    Ok(regions.iter().enumerate().map(line).collect())
}

fn line((n, &UmemStats { chunks, free, lent }): (usize, &UmemStats)) -> String {
    let others = i64::from(chunks) - i64::from(free) - i64::from(lent);
    format!("region {n}: {chunks} chunks of {CHUNK} bytes: free {free}, kernel {lent}, workers {others}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_adds_up() {
        let stats = UmemStats { chunks: 100, free: 60, lent: 30 };
        assert_eq!(line((1, &stats)), "region 1: 100 chunks of 4096 bytes: free 60, kernel 30, workers 10\n");
    }
}
