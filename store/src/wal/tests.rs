use super::record::{self, Record, take};
use model::{Labels, SeriesKey, Timestamp};
use proptest::prelude::*;

fn to_bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

proptest! {
    #[test]
    fn values_are_read_as_they_were_put(rows in prop::collection::vec((0..4_u64, any::<i64>(), any::<u64>()), 0..50), at in any::<i64>()) {
        let refs: Vec<u64> = rows.iter().map(|row| row.0 << 40).collect();
        let times: Vec<Timestamp> = rows.iter().map(|row| Timestamp(row.1)).collect();
        let bits: Vec<u64> = rows.iter().map(|row| row.2).collect();
        let values: Vec<f64> = bits.iter().map(|bits| f64::from_bits(*bits)).collect();
        let mut payload = Vec::new();
        record::put_scrape(&mut payload, 7, Timestamp(at), &values);
        let Some(Record::Scrape { layout: 7, time, values: read }) = take(record::SCRAPE, &payload) else {
            panic!("no scrape");
        };
        prop_assert_eq!((time, to_bits(&read)), (Timestamp(at), bits.clone()));
        let mut payload = Vec::new();
        record::put_batch(&mut payload, refs.iter().copied(), &times, &values);
        let Some(Record::Batch { refs: read_refs, times: read_times, values: read }) = take(record::BATCH, &payload) else {
            panic!("no batch");
        };
        prop_assert_eq!((read_refs, read_times, to_bits(&read)), (refs, times, bits));
    }

    #[test]
    fn series_and_layouts_are_read_as_they_were_put(names in prop::collection::vec(any::<String>(), 1..5), refs in prop::collection::vec(any::<u64>(), 0..50)) {
        let labels = Labels::from_pairs(names.iter().map(|name| (name.as_str(), "v")));
        let key = SeriesKey::new("m", labels);
        let mut payload = Vec::new();
        record::put_series(&mut payload, [(3, &key), (4, &key)].into_iter());
        prop_assert_eq!(take(record::SERIES, &payload), Some(Record::Series(vec![(3, key.clone()), (4, key)])));
        let mut payload = Vec::new();
        record::put_layout(&mut payload, 9, refs.iter().copied());
        prop_assert_eq!(take(record::LAYOUT, &payload), Some(Record::Layout { number: 9, refs }));
    }

    #[test]
    fn no_payload_panics(kind in 0..6_u8, payload in prop::collection::vec(any::<u8>(), 0..60)) {
        take(kind, &payload);
    }
}
