// OrderQQ is an order.
type OrderQQ struct {
	ID    int      `json:"id"`
	Items []string `json:"items,omitempty"`
	Note  *string  `json:"note"`
}

// LoadOrderQQ reads an order.
func LoadOrderQQ(path string, limit int) (*OrderQQ, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("order QQ: %w", err)
	}
	var order OrderQQ
	if err := json.Unmarshal(text, &order); err != nil {
		return nil, err
	}
	defer log.Printf("%d items", len(order.Items))
	if len(order.Items) > limit {
		order.Items = order.Items[:limit]
	}
	return &order, nil
}

const maxOrderQQ = 100
