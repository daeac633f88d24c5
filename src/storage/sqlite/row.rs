//! From columns to the model's types.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::sqlite::{Sqlite, SqliteRow};
use sqlx::{Decode, Row as _, Type};
use uuid::Uuid;

use super::error::{unavailable, unreadable};
use crate::base::Timestamp;
use crate::model::api_key::ApiKeyId;
use crate::model::{GrantId, SessionId, UserId};
use crate::storage::{Result, StoreError};

/// An identifier of the model.
pub(super) trait Id {
    /// From its sixteen bytes.
    fn from_uuid(uuid: Uuid) -> Self;
}

macro_rules! ids {
    ($($id:ident),*) => {$(
        impl Id for $id {
            fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }
    )*};
}
ids!(ApiKeyId, GrantId, SessionId, UserId);

/// Reads columns by name, into the model's types.
pub(super) trait Columns {
    /// A column as SQLite has it.
    fn get<'r, T: Decode<'r, Sqlite> + Type<Sqlite>>(&'r self, column: &str) -> Result<T>;

    /// Milliseconds.
    fn time(&self, column: &str) -> Result<Timestamp> {
        self.get(column).map(Timestamp::from_millis)
    }

    /// Milliseconds, or nothing.
    fn time_opt(&self, column: &str) -> Result<Option<Timestamp>> {
        Ok(self.get::<Option<i64>>(column)?.map(Timestamp::from_millis))
    }

    /// An identifier.
    fn id<T: Id>(&self, column: &str) -> Result<T> {
        self.get(column).map(T::from_uuid)
    }

    /// An identifier, or nothing.
    fn id_opt<T: Id>(&self, column: &str) -> Result<Option<T>> {
        Ok(self.get::<Option<Uuid>>(column)?.map(T::from_uuid))
    }

    /// A small number that is never negative.
    fn number<T: TryFrom<i64>>(&self, column: &str) -> Result<T> {
        T::try_from(self.get::<i64>(column)?).map_err(|_| unreadable(column))
    }

    /// A blob of known length.
    fn bytes<const N: usize>(&self, column: &str) -> Result<[u8; N]> {
        self.get::<&[u8]>(column)?.try_into().map_err(|_| unreadable(column))
    }

    /// A blob of known length, or nothing.
    fn bytes_opt<const N: usize>(&self, column: &str) -> Result<Option<[u8; N]>> {
        let bytes = self.get::<Option<&[u8]>>(column)?;
        bytes.map(|b| b.try_into().map_err(|_| unreadable(column))).transpose()
    }

    /// JSON text.
    fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T> {
        serde_json::from_str(self.get::<&str>(column)?).map_err(|_| unreadable(column))
    }

    /// JSON text, or nothing.
    fn json_opt<T: DeserializeOwned>(&self, column: &str) -> Result<Option<T>> {
        let text = self.get::<Option<&str>>(column)?;
        text.map(|t| serde_json::from_str(t).map_err(|_| unreadable(column))).transpose()
    }
}

impl Columns for SqliteRow {
    fn get<'r, T: Decode<'r, Sqlite> + Type<Sqlite>>(&'r self, column: &str) -> Result<T> {
        self.try_get(column).map_err(unavailable)
    }
}

/// As JSON text, for a column.
pub(super) fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(StoreError::unavailable)
}
