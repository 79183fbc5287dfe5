use super::record::{self, Record, TimesRead, take};
use crate::StoreConfig;
use crate::batch::{Batch, Times};
use crate::series::SeriesIndex;
use model::{Labels, SeriesKey, Timestamp};
use proptest::prelude::*;

proptest! {
    #[test]
    fn a_scrape_is_read_as_it_was_put(bits in prop::collection::vec(any::<u64>(), 0..50), at in any::<i64>(), own in any::<bool>()) {
        let index = SeriesIndex::new(&StoreConfig::default());
        let series = index.admit(&SeriesKey::new("m", Labels::default())).unwrap();
        let values: Vec<f64> = bits.iter().map(|bits| f64::from_bits(*bits)).collect();
        let each: Vec<Timestamp> = bits.iter().map(|bits| Timestamp(*bits as i64)).collect();
        let times = if own { Times::Each(each.clone()) } else { Times::One(Timestamp(at)) };
        let batch = Batch { series: vec![series; values.len()].into(), values, times };
        let mut payload = Vec::new();
        record::put_scrape(&mut payload, 7, &batch);
        let Some(Record::Scrape { layout: 7, times, values }) = take(record::SCRAPE, &payload) else {
            panic!("not read back");
        };
        let read: Vec<u64> = values.iter().map(|value| value.to_bits()).collect();
        prop_assert_eq!(read, bits);
        prop_assert_eq!(times, if own { TimesRead::Each(each) } else { TimesRead::One(Timestamp(at)) });
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
