import Crypto

/// The request that opens a WebSocket: one HTTP/1.1 GET, read and judged as a value.
///
/// NIO's HTTP server is not used for it: it would put five handlers into a pipeline that needs them for one request, and
/// takes headers of up to 80 KiB; what is asked of a client here is a few header fields in bounded space.
struct WebSocketRequest {
    /// What to answer.
    enum Verdict: Equatable {
        /// Bytes are missing.
        case incomplete
        /// The connection is a WebSocket behind the first `length` bytes.
        case accept(response: String, length: Int)
        case refuse(status: Int, reason: String)
    }

    /// Bytes of the request line and all header fields.
    static let lengthMax = 8192
    /// The names that MQTT over WebSocket goes by; older clients know the second. [MQTT-6.0.0-3]
    static let subprotocols = ["mqtt", "mqttv3.1"]

    private var method = Substring()
    private var target = Substring()
    private var version = Substring()
    /// Values by lower-case name, those of fields that were repeated joined with a comma. [RFC 9110, 5.3]
    private var fields: [String: String] = [:]

    /// Judges what a client has sent so far.
    ///
    /// - Parameters:
    ///   - from: how many of the bytes were judged incomplete before.
    ///   - path: what the request must ask for.
    static func judge(
        _ bytes: UnsafeRawBufferPointer,
        from: Int,
        path: String,
        origins: WebSocketOrigins
    ) -> Verdict {
        switch Self.headLength(bytes, from: from) {
        case .incomplete: return .incomplete
        case .wrong(let reason): return .refuse(status: 400, reason: reason)
        case .tooLong: return .refuse(status: 431, reason: "the request's header is too large")
        case .length(let length):
            let text = String(decoding: UnsafeRawBufferPointer(rebasing: bytes[..<(length - 4)]), as: UTF8.self)
            guard let request = WebSocketRequest(text) else {
                return .refuse(status: 400, reason: "the request is malformed")
            }
            return request.verdict(path: path, origins: origins, length: length)
        }
    }

    // MARK: Reading

    private enum Head {
        case incomplete
        case wrong(String)
        case tooLong
        /// The length with the empty line that ends it.
        case length(Int)
    }

    /// Finds the empty line, and what can be no HTTP as early as it can be told: a client that speaks TLS or MQTT here
    /// should not wait for the end of its time.
    private static func headLength(_ bytes: UnsafeRawBufferPointer, from: Int) -> Head {
        for index in min(from, Self.lengthMax)..<min(bytes.count, Self.lengthMax) {
            switch bytes[index] {
            case 0x0A:
                guard index > 0, bytes[index - 1] == 0x0D else { return .wrong("a line does not end with CR LF") }
                if index > 2, bytes[index - 2] == 0x0A { return .length(index + 1) }
            case 0x0D, 0x09: break
            case 0..<0x20, 0x7F: return .wrong("this port speaks MQTT over WebSocket only")
            default:
                guard index == 0 || bytes[index - 1] != 0x0D else { return .wrong("a line does not end with CR LF") }
            }
        }
        return bytes.count < Self.lengthMax ? .incomplete : .tooLong
    }

    private init?(_ head: String) {
        // CR LF is one character.
        var lines = head.split(separator: "\r\n", omittingEmptySubsequences: false)[...]
        guard let first = lines.popFirst() else { return nil }
        let words = first.split(separator: " ", omittingEmptySubsequences: false)
        guard words.count == 3, !words[1].isEmpty else { return nil }
        (self.method, self.target, self.version) = (words[0], words[1], words[2])
        for line in lines {
            guard let colon = line.firstIndex(of: ":") else { return nil }
            let name = line[..<colon].lowercased()
            // Neither folded lines nor space around a name. [RFC 9112, 5.1, 5.2]
            guard !name.isEmpty, !name.contains(where: { $0 == " " || $0 == "\t" }) else { return nil }
            let value = Self.trim(line[line.index(after: colon)...])
            if let before = self.fields[name] {
                guard name != "host", name != "sec-websocket-key" else { return nil }
                self.fields[name] = before + "," + value
            } else {
                self.fields[name] = String(value)
            }
        }
    }

    private static func trim(_ text: Substring) -> Substring {
        let isSpace: (Character) -> Bool = { $0 == " " || $0 == "\t" }
        guard let last = text.lastIndex(where: { !isSpace($0) }) else { return "" }
        return text[...last].drop(while: isSpace)
    }

    /// The elements of a field that is a list.
    private func list(_ name: String) -> [Substring] {
        (self.fields[name] ?? "").split(separator: ",").map(Self.trim).filter { !$0.isEmpty }
    }

    /// The target's path without its query; the target may be a whole URI. [RFC 9112, 3.2.2]
    private var path: Substring {
        var rest = self.target
        for scheme in ["http://", "https://", "ws://", "wss://"] where rest.lowercased().hasPrefix(scheme) {
            let authority = rest.dropFirst(scheme.count)
            rest = authority.firstIndex(of: "/").map { authority[$0...] } ?? "/"
            break
        }
        return rest.prefix { $0 != "?" }
    }

    // MARK: Judging

    /// [RFC 6455, 4.2.1, 4.2.2]
    private func verdict(path: String, origins: WebSocketOrigins, length: Int) -> Verdict {
        guard self.version == "HTTP/1.1" else { return .refuse(status: 400, reason: "HTTP/1.1 is needed") }
        guard self.fields["host"] != nil else { return .refuse(status: 400, reason: "there is no Host field") }
        guard self.fields["transfer-encoding"] == nil, self.fields["content-length"] ?? "0" == "0" else {
            return .refuse(status: 400, reason: "a WebSocket request has no body")
        }
        guard self.path == path else { return .refuse(status: 404, reason: "there is nothing at this path") }
        guard self.method == "GET" else { return .refuse(status: 405, reason: "only GET opens a WebSocket") }
        guard self.list("upgrade").contains(where: { $0.lowercased() == "websocket" }),
            self.list("connection").contains(where: { $0.lowercased() == "upgrade" })
        else { return .refuse(status: 426, reason: "MQTT is spoken here over WebSocket") }
        guard self.fields["sec-websocket-version"] == "13" else {
            return .refuse(status: 426, reason: "only version 13 of WebSocket is spoken here")
        }
        guard let key = self.fields["sec-websocket-key"], Self.isKey(key) else {
            return .refuse(status: 400, reason: "Sec-WebSocket-Key is not 16 bytes in base64")
        }
        let offered = self.list("sec-websocket-protocol")
        guard let subprotocol = offered.first(where: { Self.subprotocols.contains(String($0)) }) else {
            return .refuse(status: 400, reason: "the subprotocol mqtt is not offered")
        }
        if let origin = self.fields["origin"], !origins.allow(origin) {
            let shown = origin.prefix { $0.isASCII }.prefix(100)
            return .refuse(status: 403, reason: "pages of \(shown) are not allowed here (setting: --ws-origin)")
        }
        return .accept(response: Self.acceptance(key: key, subprotocol: subprotocol), length: length)
    }

    /// 16 bytes in base64: 22 digits and two signs of padding.
    private static func isKey(_ key: String) -> Bool {
        let bytes = Array(key.utf8)
        guard bytes.count == 24, bytes[22] == 0x3D, bytes[23] == 0x3D else { return false }
        return bytes[..<22].allSatisfy(Self.base64Digits.contains)
    }

    // MARK: Answering

    /// [MQTT-6.0.0-4]
    private static func acceptance(key: String, subprotocol: Substring) -> String {
        """
        HTTP/1.1 101 Switching Protocols\r
        Upgrade: websocket\r
        Connection: Upgrade\r
        Sec-WebSocket-Accept: \(Self.acceptKey(key))\r
        Sec-WebSocket-Protocol: \(subprotocol)\r
        \r\n
        """
    }

    /// The proof that the request was read. [RFC 6455, 4.2.2]
    static func acceptKey(_ key: String) -> String {
        let digest = Insecure.SHA1.hash(data: Array((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").utf8))
        return Self.base64(Array(digest))
    }

    /// The answer to a request that is refused. The connection is closed behind it.
    static func refusal(status: Int, reason: String) -> String {
        let (name, field) =
            switch status {
            case 403: ("Forbidden", "")
            case 404: ("Not Found", "")
            case 405: ("Method Not Allowed", "Allow: GET\r\n")
            case 426: ("Upgrade Required", "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n")
            case 431: ("Request Header Fields Too Large", "")
            default: ("Bad Request", "")
            }
        let body = reason + "\n"
        return """
            HTTP/1.1 \(status) \(name)\r
            \(field)Connection: \(status == 426 ? "Upgrade, close" : "close")\r
            Content-Type: text/plain; charset=utf-8\r
            Content-Length: \(body.utf8.count)\r
            \r
            \(body)
            """
    }

    private static let base64Digits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

    private static func base64(_ bytes: [UInt8]) -> String {
        var text: [UInt8] = []
        for start in stride(from: 0, to: bytes.count, by: 3) {
            let group = bytes[start..<min(start + 3, bytes.count)]
            let bits = group.reduce(0) { $0 << 8 | UInt32($1) } << (8 * UInt32(3 - group.count))
            for digit in 0...group.count {
                text.append(Self.base64Digits[Int(bits >> (18 - 6 * UInt32(digit)) & 0x3F)])
            }
            text += Array(repeating: 0x3D, count: 3 - group.count)
        }
        return String(decoding: text, as: UTF8.self)
    }
}
