/// What a WebSocket client did wrong.
enum WebSocketError: Error, Equatable, CustomStringConvertible {
    /// The opening request was answered with this status. [RFC 6455, 4.2.2]
    case refused(status: Int, String)
    /// The connection is closed with this code. [RFC 6455, 7.4.1]
    case violation(WebSocketCloseCode, String)

    var description: String {
        switch self {
        case .refused(let status, let reason): "WebSocket request refused with \(status): \(reason)"
        case .violation(let code, let reason): "WebSocket closed with \(code.rawValue): \(reason)"
        }
    }
}

/// The codes that this side closes with.
enum WebSocketCloseCode: UInt16 {
    case normal = 1000
    case goingAway = 1001
    case protocolError = 1002
    case unacceptableData = 1003
    case invalidPayload = 1007
    case messageTooBig = 1009
}
