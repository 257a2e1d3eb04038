import Testing

@testable import LocalBroker

@Suite("The request that opens a WebSocket")
struct WebSocketRequestTests {
    struct Case: Sendable, CustomTestStringConvertible {
        var testDescription: String
        var request: String
        /// The status of the answer.
        var status: Int
        var path = "/mqtt"
        var origins = WebSocketOrigins.any
    }

    static func judge(
        _ bytes: [UInt8],
        from: Int = 0,
        path: String = "/mqtt",
        origins: WebSocketOrigins = .any
    )
        -> WebSocketRequest.Verdict
    {
        bytes.withUnsafeBytes { WebSocketRequest.judge($0, from: from, path: path, origins: origins) }
    }

    static func status(_ verdict: WebSocketRequest.Verdict) -> Int {
        switch verdict {
        case .incomplete: 0
        case .accept: 101
        case .refuse(let status, _): status
        }
    }

    static let right = TestWebSocket.request

    static let cases: [Case] = [
        Case(testDescription: "right", request: Self.right("GET /mqtt HTTP/1.1", [:]), status: 101),
        Case(testDescription: "with a query", request: Self.right("GET /mqtt?a=/b HTTP/1.1", [:]), status: 101),
        Case(testDescription: "a whole URI", request: Self.right("GET http://h:80/mqtt?x HTTP/1.1", [:]), status: 101),
        Case(
            testDescription: "names and tokens in any case, lists",
            request: "GET /mqtt HTTP/1.1\r\nhost: h\r\nUPGRADE: h2c, WebSocket\r\nconnection: keep-alive,  upgrade \r\n"
                + "sec-websocket-version:13\r\nsec-websocket-key: \(TestWebSocket.key)\r\n"
                + "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: mqttv3.1, mqtt\r\n\r\n",
            status: 101
        ),
        Case(
            testDescription: "another path that is configured",
            request: Self.right("GET /ws HTTP/1.1", [:]),
            status: 101,
            path: "/ws"
        ),
        Case(testDescription: "another path", request: Self.right("GET / HTTP/1.1", [:]), status: 404),
        Case(testDescription: "a longer path", request: Self.right("GET /mqtt/ HTTP/1.1", [:]), status: 404),
        Case(testDescription: "POST", request: Self.right("POST /mqtt HTTP/1.1", [:]), status: 405),
        Case(testDescription: "HTTP/1.0", request: Self.right("GET /mqtt HTTP/1.0", [:]), status: 400),
        Case(testDescription: "HTTP/0.9", request: "GET /mqtt\r\n\r\n", status: 400),
        Case(testDescription: "no upgrade", request: Self.right("GET /mqtt HTTP/1.1", ["Upgrade": nil]), status: 426),
        Case(
            testDescription: "no upgrade of the connection",
            request: Self.right("GET /mqtt HTTP/1.1", ["Connection": "keep-alive"]),
            status: 426
        ),
        Case(
            testDescription: "another version",
            request: Self.right("GET /mqtt HTTP/1.1", ["Sec-WebSocket-Version": "8"]),
            status: 426
        ),
        Case(
            testDescription: "no key",
            request: Self.right("GET /mqtt HTTP/1.1", ["Sec-WebSocket-Key": nil]),
            status: 400
        ),
        Case(
            testDescription: "a short key",
            request: Self.right("GET /mqtt HTTP/1.1", ["Sec-WebSocket-Key": "c2hvcnQ="]),
            status: 400
        ),
        Case(
            testDescription: "two keys",
            request: Self.right("GET /mqtt HTTP/1.1", ["sec-websocket-key": TestWebSocket.key]),
            status: 400
        ),
        Case(testDescription: "no host", request: Self.right("GET /mqtt HTTP/1.1", ["Host": nil]), status: 400),
        Case(
            testDescription: "no subprotocol",
            request: Self.right("GET /mqtt HTTP/1.1", ["Sec-WebSocket-Protocol": nil]),
            status: 400
        ),
        Case(
            testDescription: "another subprotocol",
            request: Self.right("GET /mqtt HTTP/1.1", ["Sec-WebSocket-Protocol": "chat, mqtt5"]),
            status: 400
        ),
        Case(
            testDescription: "a body",
            request: Self.right("GET /mqtt HTTP/1.1", ["Content-Length": "5"]),
            status: 400
        ),
        Case(
            testDescription: "a chunked body",
            request: Self.right("GET /mqtt HTTP/1.1", ["Transfer-Encoding": "chunked"]),
            status: 400
        ),
        Case(
            testDescription: "an origin that is allowed",
            request: Self.right("GET /mqtt HTTP/1.1", ["Origin": "https://a.example"]),
            status: 101,
            origins: .listed(["https://a.example"])
        ),
        Case(
            testDescription: "an origin that is not allowed",
            request: Self.right("GET /mqtt HTTP/1.1", ["Origin": "https://b.example"]),
            status: 403,
            origins: .listed(["https://a.example"])
        ),
        Case(
            testDescription: "no browser where origins are allowed",
            request: Self.right("GET /mqtt HTTP/1.1", [:]),
            status: 101,
            origins: .listed([])
        ),
        Case(testDescription: "a folded line", request: "GET /mqtt HTTP/1.1\r\nHost: h\r\n x\r\n\r\n", status: 400),
        Case(testDescription: "a space before a colon", request: "GET /mqtt HTTP/1.1\r\nHost : h\r\n\r\n", status: 400),
        Case(testDescription: "a line without a colon", request: "GET /mqtt HTTP/1.1\r\nHost\r\n\r\n", status: 400),
        Case(testDescription: "LF alone", request: "GET /mqtt HTTP/1.1\n", status: 400),
        Case(testDescription: "CR alone", request: "GET /mqtt HTTP/1.1\rX", status: 400),
        Case(testDescription: "MQTT", request: "\u{10}\u{0C}\u{0}\u{4}MQTT", status: 400),
        Case(testDescription: "TLS", request: "\u{16}\u{3}\u{1}", status: 400),
        Case(testDescription: "an empty line", request: "\r\n\r\n", status: 400),
        Case(testDescription: "endless", request: "GET /" + String(repeating: "a", count: 8200), status: 431),
        Case(
            testDescription: "the largest",
            request: Self.padded(to: WebSocketRequest.lengthMax),
            status: 101
        ),
        Case(
            testDescription: "one more than the largest",
            request: Self.padded(to: WebSocketRequest.lengthMax + 1),
            status: 431
        ),
    ]

    static func padded(to length: Int) -> String {
        let empty = Self.right("GET /mqtt HTTP/1.1", ["X": ""])
        return Self.right("GET /mqtt HTTP/1.1", ["X": String(repeating: "x", count: length - empty.utf8.count)])
    }

    @Test("each request gets its status, in whatever pieces it comes", arguments: cases)
    func verdict(of example: Case) {
        let bytes = Array(example.request.utf8)
        #expect(Self.status(Self.judge(bytes, path: example.path, origins: example.origins)) == example.status)
        // Byte by byte, what was judged before is not looked at again.
        var verdict = WebSocketRequest.Verdict.incomplete
        var length = 0
        while verdict == .incomplete, length < bytes.count {
            verdict = Self.judge(
                Array(bytes[...length]),
                from: length,
                path: example.path,
                origins: example.origins
            )
            length += 1
        }
        #expect(Self.status(verdict) == example.status)
    }

    /// The example in RFC 6455, 1.3.
    @Test("the answer proves that the key was read, and names the client's first subprotocol that is known")
    func answer() throws {
        #expect(WebSocketRequest.acceptKey(TestWebSocket.key) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        let request = Self.right("GET /mqtt HTTP/1.1", ["Sec-WebSocket-Protocol": "x, mqttv3.1, mqtt"])
        guard case .accept(let response, let length) = Self.judge(Array((request + "rest").utf8)) else {
            Issue.record("the request was not accepted")
            return
        }
        #expect(length == request.utf8.count)
        #expect(
            response
                == "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                + "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: mqttv3.1\r\n\r\n"
        )
    }

    @Test("a request with any bytes changed in it is judged", arguments: 1...100)
    func fuzz(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        let right = Array(Self.right("GET /mqtt HTTP/1.1", [:]).utf8)
        for _ in 0..<50 {
            var bytes = right
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                let at = Int.random(in: 0..<bytes.count, using: &generator)
                switch Int.random(in: 0...2, using: &generator) {
                case 0: bytes[at] = .random(in: 0...255, using: &generator)
                case 1: bytes.remove(at: at)
                default: bytes.insert(bytes[Int.random(in: 0..<bytes.count, using: &generator)], at: at)
                }
            }
            let status = Self.status(Self.judge(bytes))
            #expect([0, 101, 400, 404, 405, 426].contains(status))
        }
    }
}
