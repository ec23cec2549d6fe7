// A page of the Vercel AI SDK: `useChat` with its default transport, as its guides have it.
// https://ai-sdk.dev/docs/ai-sdk-ui/chatbot-tool-usage, https://ai-sdk.dev/docs/ai-sdk-ui/chatbot-resume-streams

import { useChat } from "@ai-sdk/react"
import {
  DefaultChatTransport,
  getToolName,
  isToolUIPart,
  lastAssistantMessageIsCompleteWithApprovalResponses,
} from "ai"
import { useEffect, useState } from "react"
import { Message, Page, Reasoning, show, Text, ToolCall } from "./parts.jsx"

const STATES = {
  "input-streaming": "writing",
  "input-available": "running",
  "approval-requested": "asking",
  "approval-responded": "running",
  "output-available": "done",
  "output-error": "failed",
  "output-denied": "denied",
}

function Chat({ api, id }) {
  const [kept] = useState(() => JSON.parse((id && sessionStorage.getItem(id)) || "[]"))
  const { messages, sendMessage, status, error, stop, addToolApprovalResponse } = useChat({
    ...(api && { transport: new DefaultChatTransport({ api }) }),
    ...(id && { id, messages: kept, resume: true }),
    sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithApprovalResponses,
  })
  useEffect(() => {
    if (id) sessionStorage.setItem(id, JSON.stringify(messages))
  }, [id, messages])
  const isBusy = status === "submitted" || status === "streaming"
  return (
    <Page
      title="AI SDK"
      isBusy={isBusy}
      error={error}
      onSend={(text) => sendMessage({ text })}
      onStop={stop}
    >
      {messages.map((message) => (
        <Message key={message.id} role={message.role}>
          {message.parts.map((part, index) => (
            <Part key={index} part={part} onDecide={addToolApprovalResponse} />
          ))}
        </Message>
      ))}
    </Page>
  )
}

function Part({ part, onDecide }) {
  if (part.type === "text") return <Text>{part.text}</Text>
  if (part.type === "reasoning") return <Reasoning isOpen={part.state === "streaming"}>{part.text}</Reasoning>
  if (!isToolUIPart(part)) return null
  return (
    <ToolCall
      name={getToolName(part)}
      state={STATES[part.state]}
      input={part.input}
      output={part.output ?? part.errorText}
      onDecide={(approved) => onDecide({ id: part.approval.id, approved })}
    />
  )
}

show(Chat)
