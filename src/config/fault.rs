use std::fmt;

/// What is wrong at one place of the configuration, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file, or `environment NAME` when a variable said so.
    pub file: String,
    /// Line, from 1; 0 when there is no line to name.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The key, such as `tenants.acme.clients[1].redirect_uris[0]`; empty for the whole file.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub fix: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if self.path.is_empty() {
            f.write_str(":")?;
        } else {
            write!(f, " {}:", self.path)?;
        }
        write!(f, " {}\n    fix: {}", self.message, self.fix)
    }
}

/// Everything that is wrong with a configuration, in the order of the file; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Sorts the faults by place; `None` when there are none.
    pub(super) fn collect(mut faults: Vec<Fault>) -> Option<Self> {
        faults.sort_by_key(|fault| (fault.line, fault.column));
        faults.dedup();
        (!faults.is_empty()).then_some(Self(faults))
    }

    /// The faults, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }

    /// How many there are.
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(line: usize, path: &str) -> Fault {
        Fault {
            file: "config.yaml".into(),
            line,
            column: 9,
            path: path.into(),
            message: "`http://app.example/cb` is not https".into(),
            fix: "only loopback addresses may use http".into(),
        }
    }

    #[test]
    fn a_fault_names_place_path_and_fix() {
        assert_eq!(
            fault(41, "tenants.acme.clients[1].redirect_uris[0]").to_string(),
            "config.yaml:41:9 tenants.acme.clients[1].redirect_uris[0]: \
             `http://app.example/cb` is not https\n    fix: only loopback addresses may use http"
        );
        assert!(fault(0, "").to_string().starts_with("config.yaml: `http"));
    }

    #[test]
    fn faults_come_in_the_order_of_the_file() {
        let faults = Faults::collect(vec![fault(7, "b"), fault(2, "a"), fault(7, "b")]).unwrap();
        assert_eq!(faults.iter().map(|f| f.line).collect::<Vec<_>>(), [2, 7]);
        assert!(Faults::collect(vec![]).is_none());
    }
}
