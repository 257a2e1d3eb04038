import Foundation

/// What is said over a node's control socket: the asker writes one line of JSON, the node answers with one and closes.
///
/// ```
/// {"version":1,"command":"members","body":{}}
/// {"version":1,"body":{"node":"n1", …}}   or   {"version":1,"error":"why not"}
/// ```
///
/// A new command is a `ControlQuestion` of its own, added to the node's `ControlAnswers`. Fields that one side does not
/// know are passed over, so that a field may be added; another meaning takes another version.
enum ControlMessage {
    static let version = 1
    /// The longest line that a node reads.
    static let questionBytesMax = 16 * 1024
    /// The longest line that an asker reads: a table of 4,096 members with all their tags is smaller.
    static let answerBytesMax = 16 * 1024 * 1024

    static let lineEnd = UInt8(ascii: "\n")

    /// What every question begins with.
    struct Head: Codable {
        var version: Int
        var command: String
    }

    struct Question<Body: Codable>: Codable {
        var version = ControlMessage.version
        var command: String
        var body: Body
    }

    /// One of body and error is there.
    struct Answer<Body: Codable>: Codable {
        var version = ControlMessage.version
        var body: Body?
        var error: String?
    }

    /// - Returns: the line with its end.
    static func encode(_ message: some Encodable) throws -> [UInt8] {
        // Without `prettyPrinted` there is no line end within.
        Array(try JSONEncoder().encode(message)) + [Self.lineEnd]
    }
}

/// Something that a running node can be asked.
protocol ControlQuestion: Codable, Sendable {
    associatedtype Answer: Codable, Sendable

    /// The command's name on the socket.
    static var command: String { get }
}

/// Why a question was not answered; the asker shows it as it is.
struct ControlFailure: Error, CustomStringConvertible {
    var description: String

    init(_ description: String) {
        self.description = description
    }
}
