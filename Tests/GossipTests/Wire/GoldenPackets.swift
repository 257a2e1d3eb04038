import Foundation
import Testing

@testable import Gossip

/// The packets captured from programs on memberlist and from Serf agents (Fixtures/golden.json).
struct GoldenPacket: Sendable, CustomTestStringConvertible {
    let id: String
    let isStream: Bool
    let bytes: [UInt8]
    let isEncrypted: Bool
    let isLabelled: Bool
    /// The label and the key that the capture was made with.
    let sealing: Sealing
    /// What the side wrote that did not open the stream.
    let isAnswer: Bool
    /// The content of the encryption, and its nonce.
    let plainHex: String?
    let nonce: [UInt8]
    /// The leaves of the capture's own decoding: messages with their bodies, as JSON text with sorted keys.
    let expected: [String]
    /// Some layer of it is compressed, so that our encoder makes other bytes.
    let isCompressed: Bool
    /// The content of compress layers: (LZW input is within the packet) what must come out.
    let innerHex: [String]

    var testDescription: String { self.id }

    static let all: [GoldenPacket] = {
        guard let url = Bundle.module.url(forResource: "golden", withExtension: "json"),
            let data = try? Data(contentsOf: url),
            let root = try? JSONSerialization.jsonObject(with: data) as? [String: Any],
            let packets = root["packets"] as? [[String: Any]]
        else { return [] }
        return packets.compactMap(GoldenPacket.init)
    }()

    /// Those without the outer layers.
    static let plain = Self.all.filter { !$0.isEncrypted && !$0.isLabelled }
    static let datagrams = Self.plain.filter { !$0.isStream }
    static let streams = Self.plain.filter(\.isStream)
    static let encrypted = Self.all.filter { $0.isEncrypted && !$0.isLabelled }
    static let labelled = Self.all.filter(\.isLabelled)
    /// Those with one of the outer layers at least.
    static let wrapped = Self.encrypted + Self.labelled
    static let sealedDatagrams = Self.wrapped.filter { !$0.isStream }
    static let sealedStreams = Self.wrapped.filter(\.isStream)

    private init?(_ json: [String: Any]) {
        guard let id = json["id"] as? String, let transport = json["transport"] as? String,
            let hex = json["hex"] as? String, let decoded = json["decoded"] as? [String: Any]
        else { return nil }
        self.id = id
        self.isStream = transport == "tcp"
        self.bytes = [UInt8](hex: hex)
        self.isEncrypted = json["keyBase64"] != nil
        self.isLabelled = self.bytes.first == 244
        let key = (json["keyBase64"] as? String).flatMap(KeyRing.Key.init(base64:))
        self.sealing = Sealing(label: Array((json["label"] as? String ?? "").utf8), ring: key.map(KeyRing.init))
        self.isAnswer = id.hasSuffix("-reply") || id == "enc-tcp-err"
        self.plainHex = decoded["plain_hex"] as? String
        let frame = decoded["encrypt"] as? [String: Any] ?? decoded
        self.nonce = [UInt8](hex: frame["nonce"] as? String ?? "")
        var leaves: [[String: Any]] = []
        var inner: [String] = []
        Self.flatten(decoded["msg"] as? [String: Any] ?? [:], &leaves, &inner)
        self.innerHex = inner
        self.isCompressed = !inner.isEmpty
        let isStream = self.isStream
        self.expected = leaves.map { Self.canonical($0, isStream: isStream) }
    }

    private static func flatten(_ message: [String: Any], _ leaves: inout [[String: Any]], _ inner: inout [String]) {
        if let hex = message["inner_hex"] as? String { inner.append(hex) }
        if let parts = message["parts"] as? [[String: Any]] {
            for part in parts { self.flatten(part, &leaves, &inner) }
        } else if let content = message["inner"] as? [String: Any] {
            self.flatten(content, &leaves, &inner)
        } else {
            leaves.append(message)
        }
    }

    private static func canonical(_ leaf: [String: Any], isStream: Bool) -> String {
        let name = leaf["name"] as? String ?? ""
        var fields: [String: String] = [:]
        switch name {
        case "user":
            var payload = leaf["payload"] as? String ?? ""
            // The compressed stream's payload is given with its header.
            let header = "81aa557365724d73674c656e"
            if isStream, payload.hasPrefix(header) { payload = String(payload.dropFirst(header.count + 2)) }
            fields["payload"] = payload
        case "pushPull":
            let header = leaf["header"] as? [String: Any] ?? [:]
            fields["join"] = "\(header["Join"] as? Bool ?? false)"
            fields["user"] = leaf["userStateHex"] as? String ?? ""
            let nodes = leaf["nodes"] as? [[String: Any]] ?? []
            for (index, node) in nodes.enumerated() { fields["\(index)"] = self.canonical(body: node) }
        default:
            fields["body"] = self.canonical(body: leaf["body"] as? [String: Any] ?? [:])
        }
        return "\(name) " + fields.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: " ")
    }

    private static func canonical(body: [String: Any]) -> String {
        body.filter { $0.key != "meta" }.sorted { $0.key < $1.key }.compactMap { key, value in
            switch value {
            case is NSNull: nil
            case let text as String: "\(key):\(text)"
            case let number as NSNumber: "\(key):\(number.intValue)"
            default: "\(key):?"
            }
        }.joined(separator: ",")
    }
}

extension Message {
    /// The same form as `GoldenPacket.expected`.
    var canonical: String {
        switch self {
        case .ping(let ping):
            "ping body="
                + join(["Node": ping.target, "SeqNo": "\(ping.sequence)"].merging(ping.source.fields) { $1 })
        case .indirectPing(let ping):
            "indirectPing body="
                + join(
                    [
                        "Nack": ping.wantsNack ? "1" : "0", "Node": ping.target, "Port": "\(ping.targetPort)",
                        "SeqNo": "\(ping.sequence)", "Target": ping.targetAddress.marked,
                    ].merging(ping.source.fields) { $1 }
                )
        case .ack(let sequence, let payload):
            "ackResp body="
                + (payload.isEmpty ? "SeqNo:\(sequence)" : join(["Payload": payload.marked, "SeqNo": "\(sequence)"]))
        case .nack(let sequence): "nackResp body=SeqNo:\(sequence)"
        case .suspect(let accusation): "suspect body=" + accusation.canonical
        case .dead(let accusation): "dead body=" + accusation.canonical
        case .alive(let alive): "alive body=" + join(alive.fields(name: "Node"))
        case .user(let payload): "user payload=" + payload.hex
        case .error(let text): "err body=Error:\(text)"
        case .pushPull(let exchange):
            "pushPull "
                + (exchange.entries.enumerated().map { index, entry in
                    "\(index)="
                        + join(entry.alive.fields(name: "Name").merging(["State": "\(entry.state)"]) { $1 })
                } + ["join=\(exchange.isJoin)", "user=" + exchange.userState.hex]).joined(separator: " ")
        }
    }
}

private func join(_ fields: [String: String]) -> String {
    fields.sorted { $0.key < $1.key }.map { "\($0.key):\($0.value)" }.joined(separator: ",")
}

extension PingSource {
    fileprivate var fields: [String: String] {
        self == PingSource()
            ? [:] : ["SourceAddr": self.address.marked, "SourceNode": self.name, "SourcePort": "\(self.port)"]
    }
}

extension Accusation {
    fileprivate var canonical: String { "From:\(self.from),Incarnation:\(self.incarnation),Node:\(self.node)" }
}

extension Alive {
    fileprivate func fields(name: String) -> [String: String] {
        var fields = [
            "Addr": self.address.marked, "Incarnation": "\(self.incarnation)", name: self.node,
            "Port": "\(self.port)", "Vsn": self.versions.marked,
        ]
        if !self.meta.isEmpty { fields["Meta"] = self.meta.marked }
        return fields
    }
}

extension [UInt8] {
    init(hex: String) {
        let digits = hex.utf8.map { UInt8($0 >= 97 ? $0 - 87 : $0 - 48) }
        self = stride(from: 0, to: digits.count - 1, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
    }

    var hex: String { self.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined() }
    fileprivate var marked: String { "hex:" + self.hex }
}
