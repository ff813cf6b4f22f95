//! A small memory that forgets what was not asked for the longest.

/// Values by key, at most so many. A warm sandbox may live for hours, so that whatever it remembers has a bound.
#[derive(Debug)]
pub struct Recent<T> {
    /// The one that was asked for last is the last.
    entries: Vec<(String, T)>,
    max: usize,
}

impl<T: Clone> Recent<T> {
    /// An empty memory of at most `max` values, one at least.
    pub fn of(max: usize) -> Self {
        assert!(max > 0, "a memory of nothing");
        Self { entries: Vec::new(), max }
    }

    /// A value, which is now the youngest.
    pub fn get(&mut self, key: &str) -> Option<T> {
        let at = self.entries.iter().position(|(known, _)| known == key)?;
        let entry = self.entries.remove(at);
        let value = entry.1.clone();
        self.entries.push(entry);
        Some(value)
    }

    /// Remembers a value, and forgets the oldest one if there are too many.
    pub fn put(&mut self, key: &str, value: T) {
        self.entries.retain(|(known, _)| known != key);
        if self.entries.len() == self.max {
            self.entries.remove(0);
        }
        self.entries.push((key.to_owned(), value));
        assert!(self.entries.len() <= self.max, "{} of {}", self.entries.len(), self.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_stays_however_much_comes_and_the_rest_is_forgotten() {
        let mut recent = Recent::of(3);
        recent.put("in charge", 0);
        for i in 1..100 {
            recent.put(&i.to_string(), i);
            assert_eq!(recent.get("in charge"), Some(0));
        }
        assert_eq!(recent.entries.len(), 3);
        assert_eq!((recent.get("97"), recent.get("98"), recent.get("99")), (None, Some(98), Some(99)));
    }

    #[test]
    fn a_key_has_one_value_the_last() {
        let mut recent = Recent::of(2);
        for (key, value) in [("a", 1), ("b", 2), ("a", 3)] {
            recent.put(key, value);
        }
        assert_eq!((recent.get("a"), recent.get("b")), (Some(3), Some(2)));
    }
}
