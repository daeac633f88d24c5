//! From the model's types to columns.

use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments};
use uuid::Uuid;

use crate::base::{Digest, Timestamp};
use crate::model::api_key::ApiKeyId;
use crate::model::{ClientId, GrantId, Scope, SessionId, TenantUid, UserId};

/// A statement with its values.
pub(super) type Statement = Query<'static, Sqlite, SqliteArguments>;

/// Something that can stand for `?1`, `?2`, … in a statement.
pub(super) trait Value {
    /// Takes the next place.
    fn bind_to(self, statement: Statement) -> Statement;
}

/// A statement and its values, in the order of `?1`, `?2`, …
macro_rules! sql {
    ($text:expr $(, $value:expr)* $(,)?) => {{
        let statement: $crate::storage::sqlite::value::Statement = sqlx::query($text);
        $(let statement = $crate::storage::sqlite::value::Value::bind_to($value, statement);)*
        statement
    }};
}
pub(super) use sql;

macro_rules! values {
    ($($type:ty: |$value:ident| $bound:expr;)*) => {$(
        impl Value for $type {
            fn bind_to(self, statement: Statement) -> Statement {
                let $value = self;
                statement.bind($bound)
            }
        }
    )*};
}

values! {
    Timestamp: |at| at.millis();
    &TenantUid: |uid| uid.as_str();
    &ClientId: |id| id.as_str();
    &Scope: |scope| scope.to_string();
    UserId: |id| id.0;
    SessionId: |id| id.0;
    GrantId: |id| id.0;
    ApiKeyId: |id| id.0;
    Uuid: |id| id;
    &str: |text| text;
    String: |text| text;
    &String: |text| text.as_str();
    &[u8]: |bytes| bytes;
    bool: |yes| yes;
    i64: |number| number;
    u32: |number| i64::from(number);
    u8: |number| i64::from(number);
}

impl<const N: usize> Value for &[u8; N] {
    fn bind_to(self, statement: Statement) -> Statement {
        statement.bind(self.as_slice())
    }
}

impl<T> Value for &Digest<T> {
    fn bind_to(self, statement: Statement) -> Statement {
        statement.bind(self.as_bytes().as_slice())
    }
}

impl<T: Value> Value for Option<T> {
    fn bind_to(self, statement: Statement) -> Statement {
        match self {
            Some(value) => value.bind_to(statement),
            None => statement.bind(None::<i64>),
        }
    }
}
