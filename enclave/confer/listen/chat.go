package listen

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
)

// A chatRequest is confer-proxy's ChatRequest. What the engine's own limits are is package infer's to hold it to.
type chatRequest struct {
	Messages    []chatMessage `json:"messages"`
	Model       *string       `json:"model"`
	Temperature *float64      `json:"temperature"`
	MaxTokens   *int64        `json:"maxTokens"`
	Stream      *bool         `json:"stream"`
	JSON        *bool         `json:"json"`
	Thinking    *bool         `json:"thinking"`  // changes nothing there, nor here
	WebSearch   *bool         `json:"webSearch"` // of tools that are not here
	ClientTools []clientTool  `json:"clientTools"`
}

type chatMessage struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

type clientTool struct {
	Name        string          `json:"name"`
	Description string          `json:"description"`
	Parameters  json.RawMessage `json:"parameters"`
}

// toolContent is what stands in the content of a message of the role tool_call or tool_response.
type toolContent struct {
	ID        string  `json:"toolCallId"`
	Name      string  `json:"toolName"`
	Arguments *string `json:"toolArguments,omitempty"`
	Content   *string `json:"content,omitempty"`
}

// OpenAI's shapes.
type (
	openAIChat struct {
		Messages    []openAIMessage `json:"messages"`
		Model       string          `json:"model,omitempty"`
		Temperature *float64        `json:"temperature,omitempty"`
		MaxTokens   *int64          `json:"max_tokens,omitempty"`
		Stream      bool            `json:"stream,omitempty"`
		Options     *streamOptions  `json:"stream_options,omitempty"`
		Format      *format         `json:"response_format,omitempty"`
		Tools       []openAITool    `json:"tools,omitempty"`
	}
	streamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	}
	format struct {
		Type string `json:"type"`
	}
	openAIMessage struct {
		Role    string       `json:"role"`
		Content *string      `json:"content,omitempty"`
		Calls   []openAICall `json:"tool_calls,omitempty"`
		CallID  string       `json:"tool_call_id,omitempty"`
	}
	openAICall struct {
		ID       string         `json:"id"`
		Type     string         `json:"type"`
		Function openAIFunction `json:"function"`
	}
	openAIFunction struct {
		Name      string `json:"name"`
		Arguments string `json:"arguments"`
	}
	openAITool struct {
		Type     string `json:"type"`
		Function struct {
			Name        string          `json:"name"`
			Description string          `json:"description"`
			Parameters  json.RawMessage `json:"parameters"`
		} `json:"function"`
	}
)

var (
	errNoBody  = &refusal{400, "Request body is required"}
	errBadChat = &refusal{400, "Invalid ChatRequest body"}
)

// decode reads one JSON object into v. A key that v does not have is an error, as in package infer.
func decode(body []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("data after the object")
	}
	return nil
}

// translate makes OpenAI's request of Confer's, and says which tools are the client's.
func translate(body []byte) (out []byte, stream bool, tools []string, err error) {
	if len(body) == 0 {
		return nil, false, nil, errNoBody
	}
	var in chatRequest
	if decode(body, &in) != nil || in.Stream == nil {
		return nil, false, nil, errBadChat
	}
	chat := openAIChat{Messages: []openAIMessage{}, Temperature: in.Temperature, MaxTokens: in.MaxTokens, Stream: *in.Stream}
	if in.Model != nil {
		chat.Model = *in.Model
	}
	if chat.Stream {
		chat.Options = &streamOptions{true}
	}
	if in.JSON != nil && *in.JSON {
		chat.Format = &format{"json_object"}
	}
	for _, m := range in.Messages {
		t, ok := m.openAI()
		if !ok {
			return nil, false, nil, errBadChat
		}
		chat.Messages = append(chat.Messages, t)
	}
	for _, c := range in.ClientTools {
		if c.Name == "" || slices.Contains(tools, c.Name) || len(c.Parameters) == 0 || c.Parameters[0] != '{' {
			return nil, false, nil, errBadChat
		}
		t := openAITool{Type: "function"}
		t.Function.Name, t.Function.Description, t.Function.Parameters = c.Name, c.Description, c.Parameters
		chat.Tools, tools = append(chat.Tools, t), append(tools, c.Name)
	}
	if out, err = json.Marshal(chat); err != nil {
		return nil, false, nil, errBadChat
	}
	return out, chat.Stream, tools, nil
}

// openAI is the message in OpenAI's form; false: it has none.
func (m *chatMessage) openAI() (t openAIMessage, ok bool) {
	var c toolContent
	switch m.Role {
	case "user", "assistant", "system", "developer":
		return openAIMessage{Role: m.Role, Content: &m.Content}, true
	case "tool_call":
		if decode([]byte(m.Content), &c) != nil || c.Arguments == nil || c.Content != nil {
			return t, false
		}
		return openAIMessage{Role: "assistant", Calls: []openAICall{{c.ID, "function", openAIFunction{c.Name, *c.Arguments}}}}, true
	case "tool_response":
		if decode([]byte(m.Content), &c) != nil || c.Content == nil || c.Arguments != nil {
			return t, false
		}
		return openAIMessage{Role: "tool", Content: c.Content, CallID: c.ID}, true
	}
	return t, false
}
