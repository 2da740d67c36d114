// Package shop has the types of a shop.
package shop

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Status of an order.
type Status string

const (
	Open   Status = "open"
	Closed Status = "closed"
)

type Level int

const (
	Low Level = iota + 1
	Middle
	_
	High
)

type Flags uint8

const (
	Read Flags = 1 << iota
	Write
)

// One constant does not make an enum.
const Freezing Celsius = 0

type Celsius float64

type Base struct {
	ID        uuid.UUID `json:"id"`
	CreatedAt time.Time `json:"created_at"`
}

// Order is what somebody wants.
type Order struct {
	Base
	// What is wanted.
	Items    []Item            `json:"items"`
	Note     *string           `json:"note,omitempty"`
	Status   Status            `json:"status"`
	Labels   map[string]string `json:"labels,omitempty" yaml:"labels"`
	ByNumber map[int16]bool    `json:"by_number"`
	Total    int64             `json:"total,string"`
	Raw      json.RawMessage   `json:"raw,omitempty"`
	Hidden   string            `json:"-"`
	Dash     uint8             `json:"-,"`
	Width, Height int32
	Blob     []byte `json:"blob"`
	Triple   [3]uint16
	Any      interface{} `json:"any,omitempty"`
	secret   string
}

type Item struct {
	Name  string  `json:"name"`
	Price float64 `json:"price"`
	Level Level   `json:"level,omitzero"`
	Inner struct {
		X bool `json:"x"`
	} `json:"inner"`
	Parent *Item `json:"parent"`
}

type Page[T any] struct {
	Items []T     `json:"items"`
	Next  *string `json:"next"`
}

type Orders = Page[Item]

type Named struct {
	*Item `json:"item"`
	Flags Flags
}

type Custom struct{ X int }

func (c Custom) MarshalJSON() ([]byte, error) { return []byte(fmt.Sprint(c.X)), nil }

type Stamp time.Time

type Hooks struct {
	After func()
	Later chan int `json:"-"`
}

type closed struct {
	a int
}

type UsesCustom struct {
	Value Custom
}
