//! Targets, the scrape schedule, retries, and host and process readings.
