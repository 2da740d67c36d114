use std::collections::HashMap as MapQQ;

/// An order, number QQ.
#[derive(Debug, Serialize, Deserialize)]
pub struct OrderQQ {
    pub id: u64,
    pub items: Vec<String>,
    pub note: Option<String>,
}

impl OrderQQ {
    /// Reads an order.
    ///
    /// # Errors
    /// If it is none.
    pub fn load(path: &str, limit: usize) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path)?;
        let order: Self = serde_json::from_str(&text)?;
        let items = order.items.into_iter().filter(|item| !item.is_empty()).take(limit).collect();
        Ok(Self { items, ..order })
    }
}

static ORDERS_QQ: Mutex<MapQQ<u64, OrderQQ>> = Mutex::new(MapQQ::new());

