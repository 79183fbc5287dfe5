use super::*;
use crate::remote_write::tests::encode;
use proptest::prelude::*;

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        series in prop::collection::vec(
            (prop::collection::btree_map("[a-z]{1,6}", ".{1,9}", 0..4), prop::collection::vec((any::<i64>(), any::<u64>()), 0..4)), 0..6),
    ) {
        let sent: Vec<(SeriesKey, Vec<(i64, f64)>)> = series
            .into_iter()
            .map(|(labels, rows)| {
                let rows = rows.into_iter().map(|(time, bits)| (time, f64::from_bits(bits))).collect();
                (SeriesKey::new("m", Labels::from_pairs(labels)), rows)
            })
            .collect();
        let body = encode(&sent);
        let read = decode(&body).unwrap();
        let with_rows = sent.iter().filter(|(_, rows)| !rows.is_empty());
        for (read, (key, rows)) in read.series.iter().zip(with_rows.clone()) {
            prop_assert_eq!(&series_key(&read.labels).unwrap(), key);
            prop_assert_eq!(read.samples, rows.len());
        }
        prop_assert_eq!(read.series.len(), with_rows.count());
        let rows = || sent.iter().flat_map(|(_, rows)| rows);
        prop_assert!(rows().map(|row| row.0).eq(read.times.iter().map(|time| time.millis())));
        prop_assert!(rows().map(|row| row.1.to_bits()).eq(read.values.iter().map(|value| value.to_bits())));
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(request) = decode(&bytes) {
            for series in request.series {
                let _ = series_key(&series.labels);
            }
        }
    }

    #[test]
    fn a_body_cut_anywhere_is_refused_or_shorter(cut in 0.0..1.0_f64) {
        let key = SeriesKey::new("m", Labels::from_pairs([("a", "b")]));
        let body = encode(&[(key.clone(), vec![(1, 2.0)]), (key, vec![(3, 4.0)])]);
        let cut = (body.len() as f64 * cut) as usize;
        prop_assert!(decode(&body[..cut]).map_or(true, |read| read.values.len() < 2));
    }
}

#[test]
fn labels_after_samples_and_unknown_fields_are_read_too() {
    let label = |name: &[u8], value: &[u8]| {
        let part = [&[0x0a, name.len() as u8], name, &[0x12, value.len() as u8], value].concat();
        [&[0x0a, part.len() as u8], part.as_slice()].concat()
    };
    let sample = [&[0x12, 11, 0x09][..], &2.0_f64.to_le_bytes(), &[0x10, 1]].concat();
    let unknown = [0x48, 7];
    let series = [&label(b"a", b"b"), &sample[..], &label(b"__name__", b"m"), &unknown].concat();
    let body = [&[0x0a, series.len() as u8], series.as_slice(), &unknown].concat();
    let read = decode(&body).unwrap();
    assert_eq!((read.times.as_slice(), read.values.as_slice()), (&[Timestamp(1)][..], &[2.0][..]));
    let key = series_key(&read.series[0].labels).unwrap();
    assert_eq!(key.to_string(), r#"m{a="b"}"#);
}

#[test]
fn faults_are_told_with_their_place() {
    let fault = |body: &[u8]| decode(body).unwrap_err().to_string();
    assert_eq!(fault(&[0x0f]), "no protobuf field at byte 0 of the uncompressed body");
    assert_eq!(fault(&[0x0a, 2, 0x12, 9]), "no protobuf field at byte 2 of the uncompressed body");
    assert_eq!(series_key(&[0x0a, 0]).unwrap_err(), "a label without a name");
    assert_eq!(series_key(&[]).unwrap_err(), "no label __name__");
}
