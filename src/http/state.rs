use std::sync::Arc;

use axum::extract::FromRef;

use super::pages::template::Templates;
use crate::app::App;

/// What handlers can ask for with `State`: the application, or the templates of pages.
#[derive(Clone)]
pub struct Edge {
    /// The application.
    pub app: Arc<App>,
    /// The pages.
    pub templates: Arc<Templates>,
}

impl FromRef<Edge> for Arc<App> {
    fn from_ref(edge: &Edge) -> Self {
        Self::clone(&edge.app)
    }
}

impl FromRef<Edge> for Arc<Templates> {
    fn from_ref(edge: &Edge) -> Self {
        Self::clone(&edge.templates)
    }
}
