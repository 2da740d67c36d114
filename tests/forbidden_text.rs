//! Forbidden text holds in what the embedded model generates, where it would often appear by itself.

#[path = "common/forbidden_text.rs"]
mod forbidden_text;

#[cfg(not(feature = "planted-fault"))]
#[tokio::test]
async fn nothing_forbidden_appears_in_twenty_thousand_tokens() {
    let report = forbidden_text::measure(20_000, 1_000).await.expect("the model generates");
    assert!(report.num_patterns == 1_000 && report.num_free_tokens >= 20_000 && report.num_bound_tokens >= 20_000);
    assert!(report.num_free_leaks >= 200, "the control run must have something to leak: {report}");
    assert_eq!(report.num_bound_leaks, 0, "{report}");
}
